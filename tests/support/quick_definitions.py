"""The definitions that `mangaassist dev` serves, with sensors that look as often as the daemon does.

The one that counts thumbs keeps its interval: a look while a test presses them could start a retraining of half of
them.
"""

from mangaassist_assets.definitions import defs

for sensor in defs.sensors or ():
    if sensor.name != "feedback_threshold":
        sensor._min_interval = 1
