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

    from mangaassist_assets.datasets.sources.golden_set import store_golden_set
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

    snapshots = store.snapshots()
    golden = store_golden_set(snapshots, store.inputs(), vocabulary=read_vocabulary(snapshots))
    intents = Counter(one.intent or "(none)" for one in golden.messages)
    context.log.info(
        f"{len(golden.messages)} messages of {len(intents)} intents"
        if golden.messages
        else "no golden set was handed in: nothing is held out but the test sides"
    )
    return materialized(
        golden.snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(golden.messages)),
            "with_documents": dg.MetadataValue.int(sum(bool(one.relevant_documents) for one in golden.messages)),
            "with_answer": dg.MetadataValue.int(sum(bool(one.answers) for one in golden.messages)),
            "handed_in": dg.MetadataValue.text(golden.sha256 or "none"),
            "intents": table([{"intent": name, "messages": count} for name, count in intents.most_common()]),
        },
    )
