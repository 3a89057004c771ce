"""`mangaassist bootstrap`: the first champions, the first index generation, the configuration, the endpoints.

Every step looks first whether it is done: a bootstrap that was killed goes on where it stopped, one that is repeated
changes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import FILE, FOLDER, Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, RunOutcome, Session, open_session

if TYPE_CHECKING:
    from mangaassist_assets.datasets.sources.golden_file import GoldenMessage, GoldenReading
    from mangaassist_assets.datasets.sources.json_lines import Reject
    from mangaassist_assets.datasets.sources.utterances import Utterance
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.retrieval.documents.documents import KnowledgeDocument

MULTILINGUAL_SHARE = 0.02
"""From this share of Japanese messages and documents on, the multilingual encoder is worth its size."""


@click.command(cls=Command, local_only=True)
@click.option("--training", type=FILE, required=True, help="JSON lines of labelled messages for the first champions.")
@click.option(
    "--traffic-sample",
    is_flag=True,
    help="Declare that --training is a random sample of labelled traffic: gates may then judge rerankers on it.",
)
@click.option("--knowledge", type=FOLDER, required=True, help="Folder of .md, .txt, .html, .csv, .jsonl documents.")
@click.option(
    "--golden", type=FILE, help="JSON lines like those of --training, or questions with answers, never trained on."
)
@click.option(
    "--intents",
    type=FILE,
    help="Text file of all intents there are, one a line: reviews may name them at once, other new names wait.",
)
@click.option("--replace-golden", is_flag=True, help="Let --golden take the place of the golden set in use.")
@json_option
@click.pass_obj
def bootstrap(home: str | None, /, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - of `run_bootstrap`
    """First champion models, first index generation, AppConfig profiles, endpoints."""
    with open_session(home, say) as session:
        report = run_bootstrap(session, **options)
    emit(report, render_bootstrap, as_json=as_json)


def run_bootstrap(
    session: Session,
    *,
    training: Path,
    knowledge: Path,
    golden: Path | None = None,
    replace_golden: bool = False,
    traffic_sample: bool = False,
    intents: Path | None = None,
) -> dict[str, Any]:
    """Bootstrap a home and return what it holds then.

    `golden` of the report counts the golden set that was handed in, `left_out` says by model why there is no champion.

    Args:
        session: the home.
        training: labelled messages to train on.
        knowledge: the documents.
        golden: messages of the same format, or questions with their answers (`golden_file`), that nothing is ever
            trained on; without them those of before stay.
        replace_golden: let another golden set take the place of the one that is in use.
        traffic_sample: whether `training` is a random sample of labelled traffic.
        intents: the catalogue of intents (`read_catalogue`); without it that of before stays, if there was one.

    Raises:
        CatalogueError: the catalogue cannot be used; names the line.
        CommandError: the inputs cannot be used, or a step failed; says which and why.
        GoldenSetChangedError: another golden set is in use.
    """
    from mangaassist_assets.chatbot.configuration.documents import default_documents
    from mangaassist_assets.datasets.sources.utterances import read_utterances
    from mangaassist_assets.labelling.people.policy import read_catalogue_file
    from mangaassist_assets.models.pipelines import registered_pipelines
    from mangaassist_assets.privacy import Vocabulary
    from mangaassist_assets.retrieval.documents.documents import read_knowledge
    from mangaassist_assets.retrieval.knowledge_chunks import store_phrases

    reading = read_utterances(training)
    rejects_file = report_rejects(session, training, reading.rejects) if reading.rejects else None
    catalogue = None if intents is None else read_catalogue_file(intents)
    found = {utterance.intent for utterance in reading.utterances if utterance.intent}
    if len(found) < 2:
        msg = (
            f"{training} has messages of {len(found)} intents: a classifier needs at least two, "
            'each line as {"text": …, "intent": …}'
        )
        raise CommandError(msg)
    attribute = session.resources.knowledge.named_tenant_attribute()
    knowledge_reading = read_knowledge(knowledge, tenant_attribute=attribute)
    tenants = {document.tenant for document in knowledge_reading.documents} - {None}
    golden_reading = _golden_reading(session, golden, knowledge_reading.documents)
    session.progress(
        f"training file: {reading.summary()}; knowledge: {len(knowledge_reading.documents)} documents, "
        f"{len(knowledge_reading.rejects)} rejects, {len(tenants)} tenants (by the attribute {attribute!r})"
    )

    choose_base_model(
        session,
        [utterance.text for utterance in reading.utterances]
        + [document.text for document in knowledge_reading.documents],
    )
    words = Vocabulary(store_phrases(knowledge_reading.documents))
    if golden_reading is not None:
        _keep_golden(session, golden_reading.messages, vocabulary=words, replace_golden=replace_golden)
    _keep_inputs(session, reading.utterances, knowledge, vocabulary=words, traffic_sample=traffic_sample)
    resources = session.resources
    if catalogue is not None:
        _keep_catalogue(session, catalogue)
    for document in default_documents().values():
        resources.app_config.deploy_first(document)
    resources.feedback_stream.ensure_stream()

    session.progress("indexing the knowledge")
    index = _succeeded(session.run_job("index_refresh"))
    session.progress("training the first champions")
    models = _succeeded(session.run_job("bootstrap"))

    from mangaassist_assets.retrieval.stored_knowledge import read_chunks

    return {
        "utterances": len(reading.utterances),
        "rejected_lines": len(reading.rejects),
        "rejects_file": str(rejects_file) if rejects_file else None,
        "golden": golden_reading.counts() if golden_reading else None,
        "declared_intents": None if catalogue is None else len(catalogue),
        "documents": len(knowledge_reading.documents),
        "chunks": len(read_chunks(resources.store.snapshots())),
        "configuration": resources.app_config.deployed_versions(),
        "champions": {
            pipeline.model_asset: champion.version
            for pipeline in registered_pipelines()
            if (champion := resources.mlflow.version_by_alias(pipeline.model_name, "champion")) is not None
        },
        "left_out": {
            pipeline.model_asset: models.left_out[pipeline.first_asset]
            for pipeline in registered_pipelines()
            if pipeline.first_asset and pipeline.first_asset in models.left_out
        },
        "generation": resources.search.index().live_generation(),
        "runs": [index.run_id, models.run_id],
    }


def choose_base_model(session: Session, texts: Sequence[str]) -> None:
    """Choose the pretrained encoder by the store's languages, once for a home, where nobody named one."""
    from mangaassist_assets.core.text_keys import language_of
    from mangaassist_assets.local.home import Home
    from mangaassist_assets.models.encoders import BASE_MODEL_VARIABLE, PACKAGED_E5, PACKAGED_MINILM

    if os.environ.get(BASE_MODEL_VARIABLE):
        return
    home = Home(Path(os.environ["MANGAASSIST_HOME"]))
    japanese = sum(language_of(text) == "ja" for text in texts) / max(1, len(texts))
    chosen = PACKAGED_E5 if japanese >= MULTILINGUAL_SHARE else PACKAGED_MINILM
    home.choose_base_model(chosen)
    os.environ[BASE_MODEL_VARIABLE] = chosen
    session.progress(
        f"{japanese:.0%} of messages and documents are Japanese: models and embeddings start from {chosen} "
        f"({BASE_MODEL_VARIABLE} names another one)"
    )


def _golden_reading(
    session: Session, golden: Path | None, documents: Sequence[KnowledgeDocument]
) -> GoldenReading | None:
    from mangaassist_assets.datasets.sources.golden_file import read_golden_file, with_documents

    if golden is None:
        return None
    reading = read_golden_file(golden)
    if reading.rejects:
        report_rejects(session, golden, reading.rejects)
    if not reading.messages:
        msg = (
            f"{golden} has no message that can be used: a golden set holds lines like those of the training file, or "
            'questions with their answers, as {"question": …, "answer": …}'
        )
        raise CommandError(msg)
    reading = with_documents(reading, {one.document_id: one.text for one in documents})
    session.progress(f"golden set: {reading.summary()}")
    for note in reading.notes[:5]:
        session.progress(f"  line {note.line_number}: {note.note}")
    if len(reading.notes) > 5:
        session.progress(f"  … and {len(reading.notes) - 5} more notes")
    return reading


def _keep_golden(
    session: Session, messages: Sequence[GoldenMessage], *, vocabulary: Vocabulary, replace_golden: bool
) -> None:
    from mangaassist_assets.datasets.sources.golden_set import SOURCE_FILE, keep_golden_set

    inputs = session.resources.store.inputs()
    inputs.mkdir(parents=True, exist_ok=True)
    snapshots = session.resources.store.snapshots()
    stored = snapshots.find("golden_set")
    keep_golden_set(
        inputs,
        messages,
        vocabulary=vocabulary,
        replace_present=replace_golden,
        stored_source=snapshots.read(stored, SOURCE_FILE) if stored else None,
    )


def report_rejects(session: Session, source: Path, rejects: Sequence[Reject]) -> Path:
    """Write the rejects of an input beside it, or into the logs where that folder cannot be written; say the first."""
    from mangaassist_assets.datasets.sources.json_lines import write_rejects

    target = source.with_name(f"{source.stem}.rejects.jsonl")
    try:
        write_rejects(target, rejects)
    except OSError:
        target = session.logs / target.name
        write_rejects(target, rejects)
    for reject in rejects[:5]:
        session.progress(f"  line {reject.line_number}: {reject.reason}")
    if len(rejects) > 5:
        session.progress(f"  … and {len(rejects) - 5} more, all in {target}")
    return target


def _keep_inputs(
    session: Session, training: Sequence[Utterance], knowledge: Path, *, vocabulary: Vocabulary, traffic_sample: bool
) -> None:
    """Keep what was handed in, so that the assets can be materialized again when the originals are gone.

    Of the training file that is the usable messages, redacted: a copy of the file would keep personal data for ever.
    """
    from mangaassist_assets.core.files import write_whole
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.datasets.sources.training_corpus import INPUT_SOURCE_FILE, source_to_json
    from mangaassist_assets.privacy import redact

    inputs = session.resources.store.inputs()
    inputs.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "text": redact(one.text, vocabulary=vocabulary).text,
            "intent": one.intent,
            "relevant_documents": list(one.relevant_documents),
            "tenant": one.tenant,
        }
        for one in training
    ]
    write_whole(inputs / "training.jsonl", b"".join(canonical_json(line) + b"\n" for line in lines))
    write_whole(inputs / INPUT_SOURCE_FILE, source_to_json(traffic_sample=traffic_sample))
    target = session.resources.knowledge.path()
    if knowledge.resolve() != target.resolve():
        shutil.copytree(knowledge, target, dirs_exist_ok=True, symlinks=True)
        kept = {path.relative_to(knowledge) for path in knowledge.rglob("*")}
        for path in sorted(target.rglob("*"), reverse=True):
            if path.relative_to(target) not in kept:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _keep_catalogue(session: Session, catalogue: Sequence[str]) -> None:
    from mangaassist_assets.core.files import write_whole
    from mangaassist_assets.labelling.people.policy import CATALOGUE_FILE

    write_whole(session.resources.store.inputs() / CATALOGUE_FILE, "".join(f"{one}\n" for one in catalogue).encode())
    session.progress(f"{len(catalogue)} intents are declared: a review may name them at once")


def _succeeded(outcome: RunOutcome) -> RunOutcome:
    if not outcome.succeeded:
        what = "; ".join(outcome.errors or outcome.failed_checks or outcome.failed_assets)
        msg = f"the run {outcome.run_id} of {outcome.job} failed: {what}"
        raise CommandError(msg)
    return outcome


def render_bootstrap(report: dict[str, Any]) -> None:
    """Print what a bootstrap left."""
    rows = [("training messages", f"{report['utterances']} ({report['rejected_lines']} lines rejected)")]
    if golden := report["golden"]:
        parts = ("with_intent", "with_documents", "with_answer", "rejected_lines")
        counts = ", ".join(f"{golden[part]} {part.replace('_', ' ')}" for part in parts)
        rows.append(("golden set", f"{golden['messages']} messages: {counts}"))
    if report["declared_intents"] is not None:
        rows.append(("declared intents", str(report["declared_intents"])))
    rows += [
        ("knowledge", f"{report['documents']} documents, {report['chunks']} chunks"),
        ("index generation", report["generation"]),
        *((f"champion {name}", f"version {version}") for name, version in report["champions"].items()),
        *((f"champion {name}", f"left out: {reason}") for name, reason in report["left_out"].items()),
        ("configuration", ", ".join(f"{name} {version}" for name, version in report["configuration"].items())),
    ]
    console().print(new_table("Bootstrapped", ("what", "is"), rows))
