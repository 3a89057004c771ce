"""Assets of the MangaAssist lineage and retraining platform.

Domain packages in here (`tracing`, `mining`, `datasets`, `learning`, `serving`, `knowledge`, `triggers`, `releases`,
`chatbot`) know neither Dagster nor boto3; `assets` and `checks` are thin and know both worlds; `definitions` is the one
place where all of it is assembled.
"""
