"""What transformers makes of tokenizers whose files name special tokens in different places.

usage: special_tokens.py MODEL OUT

Writes a copy of MODEL for every case into OUT/NAME, other files beside its tokenizer.json, and what
transformers says of it into OUT/NAME.oracle, as `vintage parity` reads it. Prints the number of cases.
"""

import copy
import json
import pathlib
import shutil
import sys

from transformers import AutoTokenizer

model, out = map(pathlib.Path, sys.argv[1:])
read = lambda name: json.loads((model / name).read_text())
TOKENIZER, CONFIG = read("tokenizer.json"), read("tokenizer_config.json")
NAMED = {key: value for key, value in CONFIG.items() if key.endswith("_token")}
BARE = {key: value for key, value in CONFIG.items() if key not in NAMED}
DECODER = {str(token["id"]): {**token} for token in TOKENIZER["added_tokens"]}
for token in DECODER.values():
    token.pop("id")
TEMPLATE = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ image_token }}|{{ messages[0].content }}"
TEXTS = ["one <|eot_id|> two", "a <s> b [PAD]  <|new|> c<|eot_id|>", " <|start_header_id|> x "]


def changed(**changes):
    return {**copy.deepcopy(TOKENIZER), **changes}


def flags(**changes):
    tokens = copy.deepcopy(TOKENIZER["added_tokens"])
    for token in tokens:
        token.update(changes)
    return changed(added_tokens=tokens)


def stated(token, **changes):
    decoder = copy.deepcopy(DECODER)
    number = next((at for at, known in decoder.items() if known["content"] == token), "290")
    plain = {"content": token, "lstrip": False, "rstrip": False, "single_word": False}
    decoder[number] = {**plain, "normalized": False, "special": True, **changes}
    return {**CONFIG, "added_tokens_decoder": decoder}


def token(content, **changes):
    plain = {"content": content, "lstrip": False, "rstrip": False, "single_word": False}
    return {**plain, "normalized": False, **changes}


truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
padding = {"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 281}
padding |= {"pad_type_id": 0, "pad_token": "<|end_of_text|>"}
typed = {"__type": "AddedToken", **token("<|eot_id|>")}
config, map_, added = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
CASES = {
    "plain": {},
    "truncation": {"tokenizer.json": changed(truncation=truncation)},
    "padding": {"tokenizer.json": changed(padding=padding)},
    "map-alone": {config: BARE, map_: NAMED},
    "map-objects": {config: BARE, map_: {key: token(value, rstrip=True) for key, value in NAMED.items()}},
    "map-wins": {map_: {"eos_token": "<|end_of_text|>"}},
    "map-null": {map_: {"bos_token": None}},
    "decoder-wins": {config: {**CONFIG, "added_tokens_decoder": DECODER}, map_: {"eos_token": "<|end_of_text|>"}},
    "decoder-without-names": {config: {**BARE, "added_tokens_decoder": DECODER}, map_: NAMED},
    "decoder-strips": {config: stated("<|eot_id|>", rstrip=True, lstrip=True)},
    "decoder-adds": {config: stated("<|new|>")},
    "decoder-adds-normalized": {config: stated("<|new|>", normalized=True, special=False)},
    "added-tokens": {added: {"<|new|>": 286, "[PAD]": 285}},
    "added-tokens-named": {config: {**CONFIG, "pad_token": "[PAD]"}, added: {"[PAD]": 285}},
    "pad-is-new": {config: {**CONFIG, "pad_token": "[PAD]"}},
    "two-are-new": {config: {**CONFIG, "pad_token": "[PAD]", "bos_token": "<s>"}},
    "new-in-the-map": {config: BARE, map_: {"bos_token": token("<s>", rstrip=True), "pad_token": "[PAD]"}},
    "typed-object": {config: {**CONFIG, "eos_token": typed}},
    "flags-of-bos-and-eos": {config: {**CONFIG, "add_bos_token": False, "add_eos_token": True}},
    "no-template": {"tokenizer.json": changed(post_processor=None), config: {**CONFIG, "add_bos_token": True}},
    "more-in-config": {config: {**CONFIG, "additional_special_tokens": ["<|new|>", "<|eot_id|>"]}},
    "more-in-map": {map_: {"additional_special_tokens": ["<|new|>"]}},
    "more-in-both": {config: {**CONFIG, "additional_special_tokens": ["<s>"]}, map_: {"additional_special_tokens": ["<|new|>"]}},
    "more-by-name": {config: {**CONFIG, "extra_special_tokens": {"image_token": "<|new|>"}}},
    "own-name": {config: {**CONFIG, "image_token": "<|new|>"}},
    "not-special": {"tokenizer.json": flags(special=False)},
    "strip-in-both": {"tokenizer.json": flags(lstrip=True), config: BARE, map_: {"eos_token": token("<|eot_id|>", rstrip=True)}},
    "no-config": {config: None},
    "no-config-but-map": {config: None, map_: NAMED},
    "split": {config: {**CONFIG, "split_special_tokens": True}},
    "empty": {config: {**CONFIG, "bos_token": ""}},
    "clean-up": {config: {**CONFIG, "clean_up_tokenization_spaces": True}},
}

for name, files in CASES.items():
    folder, oracle = out / name, out / f"{name}.oracle"
    shutil.copytree(model, folder)
    oracle.mkdir()
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    for file, content in files.items():
        if content is None:
            (folder / file).unlink()
        else:
            (folder / file).write_text(json.dumps(content))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cases = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        cases.append({"text": text, "ids": ids, "ids_without_special": plain, "decoded": tokenizer.decode(ids)})
    messages = [{"role": "user", "content": "one <|eot_id|>"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    chat = {"messages": messages, "rendered": rendered, "ids": tokenizer(rendered, add_special_tokens=False)["input_ids"]}
    (oracle / "tokenizer.json").write_text(json.dumps({"cases": cases, "chat": chat}))
print(len(CASES))
