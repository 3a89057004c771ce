"""The golden set: messages that nothing is ever trained on, in no bundle."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, materialized, table
from resources.store import StoreResource


@dg.asset(group_name="bootstrap", owners=[ML_ENGINEERING], kinds={"json"}, code_version="1")
def golden_set(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult[None]:
    """The fixed messages that models are compared on from the first day to the last; no dataset may hold one of them.

    One row is one message with what is known of it: its intent, the documents that answer it, its reference answers and
    contexts; redacted; from the file handed to `mangaassist bootstrap --golden`. It is empty where none was. Another
    file is refused unless somebody said `--replace-golden`.
    """
    from collections import Counter

    from mangaassist_assets.datasets.sources.golden_set import (
        GOLDEN_FILE,
        SOURCE_FILE,
        golden_to_json,
        read_handed_in,
        refuse_other_golden_set,
    )
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

    snapshots = store.snapshots()
    handed_in = read_handed_in(store.inputs())
    stored = snapshots.find("golden_set")
    source = refuse_other_golden_set(handed_in, snapshots.read(stored, SOURCE_FILE) if stored else None)
    utterances = handed_in.utterances(read_vocabulary(snapshots))
    files = {GOLDEN_FILE: golden_to_json(utterances), SOURCE_FILE: source}
    if stored is not None and snapshots.read(stored, SOURCE_FILE) == source:
        # The words of the store grow, and with them what redaction leaves alone: the set stays as it was.
        files = {name: snapshots.read(stored, name) for name in stored.files}
    snapshot = snapshots.write("golden_set", files, partition=None)
    intents = Counter(one.intent or "(none)" for one in utterances)
    context.log.info(
        f"{len(utterances)} messages of {len(intents)} intents"
        if utterances
        else "no golden set was handed in: nothing is held out but the test sides"
    )
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(utterances)),
            "with_documents": dg.MetadataValue.int(sum(bool(one.relevant_documents) for one in utterances)),
            "with_answer": dg.MetadataValue.int(sum(bool(one.answers) for one in utterances)),
            "handed_in": dg.MetadataValue.text(handed_in.sha256 or "none"),
            "intents": table([{"intent": name, "messages": count} for name, count in intents.most_common()]),
        },
    )
