"""A production install has no stand-ins and no demo: the definitions of AWS and the command line do without."""

from __future__ import annotations

import json

from tests.support.production_install import MISSING, run_code, run_commands

HEAVY = ("boto3", "dagster", "mlflow", "numpy", "polars", "torch", "mangaassist_assets.local")


def test_the_definitions_of_aws_are_built_without_the_stand_ins(tmp_path):
    code = "from mangaassist_assets.definitions import build_definitions\nprint(len(build_definitions('aws').jobs))"
    done = run_code(code, folder=tmp_path / "here", MANGAASSIST_ENV="aws")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_what_is_missing_there_is_missing_in_these_tests(tmp_path):
    code = f"""
import importlib
for name in {MISSING}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(error)
"""
    done = run_code(code, folder=tmp_path / "here")
    assert done.stdout.splitlines() == [f"{name} is not part of a production install" for name in MISSING]


def test_help_is_printed_and_imports_nothing_heavy(tmp_path):
    code = (
        "commands = [['--help'], ['evaluate', 'intent', '--help'], ['erase-user', '--help'], ['dev', '--help']]\n"
        "outputs = [one['stdout'] for one in ran_here(commands)]\n"
        f"print(json.dumps([outputs, [one for one in {HEAVY} if one in sys.modules]]))"
    )
    done = run_code(code, folder=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    outputs, imported = json.loads(done.stdout)
    assert all("--home" in one for one in outputs)
    assert imported == []


def test_a_command_on_a_local_home_names_the_extra_that_it_lacks(tmp_path):
    file = tmp_path / "labelled.jsonl"
    file.write_text("{}")
    commands = [["up"], ["evaluate", "intent", "--data", str(file)]]
    for ran in run_commands(commands, folder=tmp_path / "here", MANGAASSIST_ENV="local"):
        assert ran.code == 1
        assert "install the extra `local`" in ran.stderr
        assert "ministack" in ran.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_what_makes_sense_on_a_local_home_only_is_refused_on_aws(tmp_path):
    file, folder = tmp_path / "messages.jsonl", tmp_path / "knowledge"
    file.write_text("{}")
    folder.mkdir()
    commands = [
        ["up"],
        ["dev"],
        ["demo"],
        ["bootstrap", "--training", str(file), "--knowledge", str(folder)],
        ["simulate", "--utterances", str(file), "--release-bundle", "2026.03.24-rc2"],
    ]
    for command, ran in zip(
        commands, run_commands(commands, folder=tmp_path / "here", MANGAASSIST_ENV="aws"), strict=True
    ):
        assert ran.code == 1
        assert f"{command[0]}` works on a local home only, and MANGAASSIST_ENV is aws" in ran.stderr


def test_variables_that_aws_needs_are_named_and_no_local_home_is_taken_or_made(tmp_path):
    commands = [
        ["datasets", "list"],
        ["models", "list"],
        ["datasets", "list", "--home", "kept"],
        ["--home", "kept", "datasets", "list"],
    ]
    unset = {"MANGAASSIST_STORE": "", "DAGSTER_HOME": ""}
    ran = run_commands(commands, folder=tmp_path / "here", MANGAASSIST_ENV="aws", MANGAASSIST_HOME="kept", **unset)
    assert [one.code for one in ran] == [1, 1, 1, 1]
    assert "MANGAASSIST_STORE is not set" in ran[0].stderr
    assert "DAGSTER_HOME is not set" in ran[1].stderr
    assert all("--home names a local home, and MANGAASSIST_ENV is aws" in one.stderr for one in ran[2:])
    assert list((tmp_path / "here").iterdir()) == []
