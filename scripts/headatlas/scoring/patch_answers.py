"""Effects of patching single heads from another prompt, with another or the same answer."""

from collections.abc import Callable

from headatlas.files.effects import question_index
from headatlas.files.patches import KINDS, Patched
from headatlas.models.head_model import HeadModel
from headatlas.models.replacement import PromptBaseline, partners
from headatlas.scoring.knock_out import knock_out


def patch_answers(
    model: HeadModel,
    items: list[dict],
    heads: list[tuple[int, int]],
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    engine: str = "auto",
) -> Patched:
    """Drop in the answer's score when a single head takes its output at the answer positions from another prompt.

    The other prompt is first the item's counterfactual, for which the foil is right, then another question with the
    same answer. The item's own answer follows both.

    Args:
        items: tokenised items with `counterfactual_ids` and `same_answer_ids`; heads: (layer, head), hottest first.
        batch_tokens: maximum number of positions of one pass, over all rows.
        advance: called with the number of items done; every item is done twice.
        engine: `replay`, `hooked`, or `auto` (`replay` if it holds).

    Raises:
        HeadAtlasError: as in `engine.run_checked`.
    """
    effects, reports = {}, {}
    for kind in KINDS:
        baseline = PromptBaseline(partners(items, kind))
        sets = [[], *([tuple(head)] for head in heads)]
        score, _, report = knock_out(model, items, sets, baseline, "answer", batch_tokens, advance, engine)
        effects[kind], reports[kind] = score[:1] - score[1:], report.as_dict()
    return Patched([[*head] for head in heads], **effects, question=question_index(items), engine=reports)
