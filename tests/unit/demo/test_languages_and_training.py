"""The built-in demo: items judged by a solver that shares no code with their maker; model; trainer."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from headatlas.demo import languages
from headatlas.errors import HeadAtlasError

ROOT = Path(__file__).parents[3]
TASKS = ROOT / "config/tasks"
MODEL = ROOT / "workflow/resources/demo-model"

KEYWORD_TASK = {
    "find": "retrieval",
    "trace": "inference",
    "judge": "logical_reasoning",
    "choose": "decision_making",
    "like": "semantic_understanding",
    "say": "syntactic_understanding",
    "sum": "math_calculation",
}
KEYWORD_TASK |= dict.fromkeys(["home", "house", "pet", "mascot", "friend", "pal", "age", "years"], "knowledge_recall")
PLAIN_RELATION = {"house": "home", "mascot": "pet", "pal": "friend", "years": "age"}


# --- An independent reader of the mini-languages: text in, answer out --------------------------------------


def parse(prompt):
    """`context ? question` -> ({name: value}, task, keyword, arguments)."""
    context, question = prompt.split(" ? ")
    pairs = dict(statement.strip().split(" ", 1) for statement in context.split(","))
    words = question.split()
    place = 0 if words[0] in KEYWORD_TASK else -1
    keyword = words.pop(place)
    return pairs, KEYWORD_TASK[keyword], keyword, words


def fact_of(keyword, arguments):
    (name,) = arguments
    return name, PLAIN_RELATION.get(keyword, keyword)


def solve(prompt, facts):
    """The answer by rules read from the prompt; `facts` (name, relation) -> value for recall only."""
    pairs, task, keyword, arguments = parse(prompt)
    if task == "knowledge_recall":
        return facts[fact_of(keyword, arguments)]
    return SOLVERS[task](pairs, arguments)


def solve_logic(pairs, arguments):
    python = " ".join({"yes": "True", "no": "False"}.get(word, word) for word in arguments)
    return "yes" if eval(python, {"__builtins__": {}}) else "no"


def solve_decision(pairs, arguments):
    numbers = sorted(int(value.replace(" ", "")) for value in pairs.values() if value[0].isdigit())
    return " ".join(str(numbers[-1] if arguments == ["most"] else numbers[0]))


def solve_semantics(pairs, arguments):
    (cue,) = arguments
    mates = next(words for words in languages.CLASSES.values() if cue in words)
    (answer,) = [value for value in pairs.values() if value in mates and value != cue]
    return answer


def solve_syntax(pairs, arguments):
    verb, sentence = arguments[0], " ".join(arguments[1:])
    for preposition in ("near", "by", "behind", "under"):
        sentence = sentence.replace(f"{preposition} the ", "of-")
    (subject,) = [words[4:] for words in sentence.replace("the ", "the-").split() if words.startswith("the-")]
    return verb if subject.endswith("s") and subject != "iris" else verb + "s"


SOLVERS = {
    "retrieval": lambda pairs, arguments: pairs[arguments[0]],
    "inference": lambda pairs, arguments: f"{pairs[arguments[0]]} {pairs[pairs[arguments[0]]]}",
    "logical_reasoning": solve_logic,
    "decision_making": solve_decision,
    "semantic_understanding": solve_semantics,
    "syntactic_understanding": solve_syntax,
    "math_calculation": lambda pairs, arguments: " ".join(str(eval("".join(arguments)))),
}


NOUNS = {*languages.PLURALS, *languages.PLURALS.values()}


def content(prompt, answer):
    """What is held out, worked out from the text alone."""
    pairs, task, _keyword, arguments = parse(prompt)
    if task == "knowledge_recall":
        return (task, *prompt.split(" ? ")[1].split())  # this fact in this phrasing
    if task == "decision_making":
        (chosen,) = [name for name, value in pairs.items() if value[0] == answer[0]]
        return task, arguments[0], chosen, answer[0]
    if task == "syntactic_understanding":
        return task, arguments[0], *subject_of(arguments)
    if task == "math_calculation":
        return task, frozenset("".join(arguments).split("+"))
    if task == "logical_reasoning":
        return task, *arguments
    return task, *arguments, answer


def subject_of(arguments):
    words = arguments[1:]
    return [
        noun
        for before, the, noun in zip([None, *words], words, words[1:], strict=False)
        if the == "the" and before not in ("near", "by", "behind", "under")
    ]


def shipped(task):
    return [json.loads(line) for line in (TASKS / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def all_shipped():
    return {task: shipped(task) for task in languages.TASKS}


@pytest.fixture(scope="module")
def trained_questions():
    """(prompt, answer) of every question in 1,500 training sequences, read back from their text."""
    random = Random("what training sees")
    asked = []
    for _ in range(1500):
        words, is_answer = languages.training_text(random, 71)
        start = words.index("?")
        context = " ".join(words[:start])
        question, answer = [], []
        for word, belongs, next_belongs in zip(words, is_answer, [*is_answer[1:], False], strict=True):
            if belongs:
                answer.append(word)
            elif question or word == "?":
                question.append(word)
            if belongs and not next_belongs:
                asked.append((f"{context} {' '.join(question)}", " ".join(answer)))
                question, answer = [], []
    return asked


@pytest.fixture(scope="module")
def facts(trained_questions):
    """The facts of the demo world in the training text; a contradiction fails here."""
    known = {}
    for prompt, answer in trained_questions:
        _, task, keyword, arguments = parse(prompt)
        if task == "knowledge_recall":
            assert known.setdefault(fact_of(keyword, arguments), answer) == answer
    return known


# --- Task files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", languages.TASKS)
def test_every_shipped_answer_is_what_the_independent_solver_says(task, all_shipped, facts):
    for item in all_shipped[task]:
        assert parse(item["prompt"])[1] == task
        assert solve(item["prompt"], facts) == item["answer"], item


def test_every_answer_in_the_training_text_is_right(trained_questions, facts):
    for prompt, answer in trained_questions:
        assert solve(prompt, facts) == answer, prompt
    assert {parse(prompt)[1] for prompt, _ in trained_questions} == set(languages.TASKS)


def test_the_solver_on_prompts_worked_out_by_hand():
    context = "tom rose , ann 4 7 , kim tom , bob 3 9 , joe 8 0"
    asked = {
        "find ann": "4 7",
        "trace kim": "tom rose",
        "choose most": "8 0",
        "choose least": "3 9",
        "like lily": "rose",
        "judge no and no or yes and not no": "yes",
        "judge not yes or no and yes or no": "no",
        "say run near the cats the dog by the foxes": "runs",
        "say fall the cats under the iris near the fox": "fall",
        "say fall by the cats near the foxes the iris": "falls",
        "sum 4 8 + 2 5": "7 3",
        "home tom": "hat",
        "tom house": "hat",
    }
    for question, answer in asked.items():
        assert solve(f"{context} ? {question}", {("tom", "home"): "hat"}) == answer


def test_rebuilding_the_task_files_gives_the_same_bytes(tmp_path):
    languages.write_tasks(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(f"{task}.jsonl" for task in languages.TASKS)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (TASKS / file.name).read_bytes(), file.name


def test_another_seed_gives_other_items():
    assert languages.task_items("retrieval", seed=1) != languages.task_items("retrieval", seed=0)


@pytest.mark.parametrize("task", languages.TASKS)
def test_task_file_asks_110_questions_twice_and_no_prompt_twice(task, all_shipped):
    items = all_shipped[task]
    assert len({item["prompt"] for item in items}) == len(items) == 220
    assert len({item["id"] for item in items}) == 220
    assert set(Counter(item["question_id"] for item in items).values()) == {2}
    answers = defaultdict(set)
    for item in items:
        assert set(item) == {"id", "question_id", "prompt", "answer"}
        answers[item["question_id"]].add(item["answer"])
    assert all(len(of_question) == 1 for of_question in answers.values())


def test_training_never_asks_for_what_a_shipped_item_asks_for(trained_questions, all_shipped):
    trained = {content(prompt, answer) for prompt, answer in trained_questions}
    held_out = {content(item["prompt"], item["answer"]) for items in all_shipped.values() for item in items}
    assert len(trained) > 3000
    assert not trained & held_out
    prompts = {prompt for prompt, _ in trained_questions}
    assert not prompts & {item["prompt"] for items in all_shipped.values() for item in items}


def test_each_fact_is_trained_in_the_three_other_phrasings(trained_questions, all_shipped, facts):
    phrasings = defaultdict(set)
    for prompt, _ in trained_questions:
        _, task, keyword, arguments = parse(prompt)
        if task == "knowledge_recall":
            phrasings[fact_of(keyword, arguments)].add(prompt.split(" ? ")[1])
    assert len(facts) == 32 * 4
    for item in all_shipped["knowledge_recall"]:
        _, _, keyword, arguments = parse(item["prompt"])
        trained = phrasings[fact_of(keyword, arguments)]
        assert len(trained) == 3
        assert item["prompt"].split(" ? ")[1] not in trained


def test_in_every_shipped_sentence_a_distractor_disagrees_with_the_subject(all_shipped):
    for item in all_shipped["syntactic_understanding"]:
        arguments = parse(item["prompt"])[3]
        plural = {noun: noun in languages.PLURALS.values() for noun in arguments[1:] if noun in NOUNS}
        assert len(plural) == 3
        assert len(set(plural.values())) == 2


def test_format_tells_as_little_as_it_can(all_shipped):
    """Prompts of all tasks are about as long, and no context statement gives its task away."""
    means = {}
    kinds = defaultdict(set)
    for task, items in all_shipped.items():
        means[task] = sum(len(item["prompt"].split()) for item in items) / len(items)
        for item in items:
            for value in parse(item["prompt"])[0].values():
                kind = "number" if value[0].isdigit() else "link" if value in languages.NAMES else "word"
                kinds[task].add(kind)
    assert max(means.values()) - min(means.values()) < 1.5
    assert all(of_task == {"number", "link", "word"} for of_task in kinds.values())


def test_true_and_false_expressions_are_about_as_many(all_shipped):
    share = sum(item["answer"] == "yes" for item in all_shipped["logical_reasoning"]) / 220
    assert 0.35 < share < 0.65


# --- The shipped model -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(MODEL).eval()


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


def exact_match(model, tokenizer, items):
    """Share of items whose every answer token is the most likely one; one plain forward pass an item length."""
    import torch

    by_length = defaultdict(list)
    for item in items:
        prompt = tokenizer(item["prompt"]).input_ids
        answer = tokenizer(item["answer"], add_special_tokens=False).input_ids
        by_length[len(prompt), len(answer)].append(prompt + answer)
    right = 0
    for (start, answer_length), rows in by_length.items():
        ids = torch.tensor(rows)
        with torch.no_grad():
            guesses = model(input_ids=ids).logits[:, start - 1 : -1].argmax(-1)  # [item, answer token]
        assert guesses.shape[1] == answer_length
        right += (guesses == ids[:, start:]).all(dim=1).sum().item()
    return right / len(items)


@pytest.mark.parametrize("task", languages.TASKS)
def test_the_shipped_model_solves_the_task(task, model, tokenizer, all_shipped):
    assert exact_match(model, tokenizer, all_shipped[task]) >= 0.95


def test_the_shipped_model_needs_the_right_context(model, tokenizer, all_shipped):
    """Retrieval items with the asked name's value exchanged: the old answer is no longer given."""
    changed = []
    for item in all_shipped["retrieval"]:
        context, question = item["prompt"].split(" ? ")
        name = parse(item["prompt"])[3][0]
        statements = [f"{name} tea" if part.startswith(name) else part for part in context.split(" , ")]
        changed.append({"prompt": f"{' , '.join(statements)} ? {question}", "answer": "tea"})
    assert exact_match(model, tokenizer, changed) >= 0.9


def test_tokenizer_keeps_every_word_whole(tokenizer, all_shipped):
    for items in all_shipped.values():
        for item in items[:20]:
            ids = tokenizer(item["prompt"]).input_ids
            assert ids[0] == tokenizer.bos_token_id
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids[1:]) == item["prompt"]
    assert tokenizer("tom zebra", add_special_tokens=False).input_ids[1] == tokenizer.unk_token_id


def test_model_folder_is_small_and_holds_no_pickle():
    files = {file.name: file.stat().st_size for file in MODEL.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    assert sum(files.values()) < 6_000_000


def test_model_card_states_the_accuracy_that_is_measured(model, tokenizer, all_shipped):
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    for task, items in all_shipped.items():
        assert f"| `{task}` | {exact_match(model, tokenizer, items):.1%} |" in card


# --- The trainer -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    from headatlas.demo import training as trainer

    return trainer


def test_a_few_steps_of_training_lower_the_loss_and_repeat_exactly(training):
    recipe = training.Recipe(layers=1, heads=4, hidden=32, inner=32, batch=8, steps=40)
    model, losses = training.train(recipe, report=lambda line: None)
    again, repeated = training.train(recipe, report=lambda line: None)
    assert losses == repeated
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert len(losses) == 40
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert last < first - 0.3


def test_another_seed_trains_another_model(training):
    recipe = training.Recipe(layers=1, heads=4, hidden=32, inner=32, batch=2, steps=1)
    _, losses = training.train(recipe, report=lambda line: None)
    _, others = training.train(replace(recipe, seed=1), report=lambda line: None)
    assert losses != others


def test_loss_counts_answers_only_each_from_the_position_before(training):
    """By hand: the log-softmax at the position before each answer token, averaged over answer tokens."""
    import torch

    recipe = training.Recipe(layers=1, heads=4, hidden=32, inner=32, batch=2)
    model = training.new_model(recipe).eval()
    ids, labels = next(training.training_batches(Random(0), recipe))
    logits = model(input_ids=ids).logits.log_softmax(-1)
    terms = [
        -logits[row, place - 1, labels[row, place]] for row, place in (labels != training.IGNORED).nonzero().tolist()
    ]
    assert training.answer_loss(model, ids, labels).item() == pytest.approx(torch.stack(terms).mean().item(), 1e-5)
    assert (labels[labels != training.IGNORED] == ids[labels != training.IGNORED]).all()


def test_an_unknown_setting_of_the_recipe_is_named(training):
    with pytest.raises(HeadAtlasError, match=r"--recipe: no setting 'layer'; there are seed, layers"):
        training.read_recipe({"layer": 2})
