"""Checks the conversations in a run's archive with transformers' tokenizer and chat template: every row
is its prompt, then completions and what the environment said in turn, token by token.

usage: conversations.py RUN digits|length: prints what it found, one JSON object.
"""

import json
import pathlib
import sys

import pyarrow.parquet
from transformers import PreTrainedTokenizerFast

import world

HOLE = "THE COMPLETION"

run, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
tokenizer = PreTrainedTokenizerFast.from_pretrained(run / "weights/lead/0")
template = run / "weights/lead/0/chat_template.jinja"
if template.exists():
    tokenizer.chat_template = template.read_text()
end = tokenizer.eos_token


def rendered(messages):
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def encoded(text):
    return tokenizer.encode(text, add_special_tokens=False)


def spelled(tokens):
    return tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def stretches(mask):
    """Ranges of equal mask, with it."""
    begin = 0
    for at in range(1, len(mask) + 1):
        if at == len(mask) or mask[at] != mask[begin]:
            yield mask[begin], begin, at
            begin = at


def check(row):
    """Returns the number of completions, and how many would have been tokenized otherwise."""
    tokens, mask, logprobs = row["completion_tokens"], row["loss_mask"], row["behavior_logprobs"]
    assert len(tokens) == len(mask) == len(logprobs)
    metadata = dict(row["metadata"])
    parts = dict(row["reward_parts"])
    pieces = list(stretches(mask))
    turns = int(metadata["turns"])
    assert len(pieces) == 2 * turns - 1 and mask[0] and mask[-1], pieces
    assert int(metadata["environment_tokens"]) == mask.count(False)
    answer = metadata["digit"]
    messages = [{"role": "user", "content": world.asked(answer, 1)}]
    assert row["prompt_text"] == rendered(messages)
    assert row["prompt_tokens"] == encoded(rendered(messages))
    rewards, otherwise = 0, 0
    for turn in range(1, turns + 1):
        sampled, begin, stop = pieces[2 * turn - 2]
        assert sampled and all(logprob <= 1e-4 for logprob in logprobs[begin:stop])
        completion = tokens[begin:stop]
        ended = completion[-1] == tokenizer.eos_token_id
        text = spelled(completion[:-1] if ended else completion)
        otherwise += encoded(text) != (completion[:-1] if ended else completion)
        last = turn == turns
        # Until the last turn, whatever was left did not end the episode.
        reply = world.reply(kind, turn, 0 if last else 1, text, answer)
        assert parts[f"turn_{turn}"] == float(reply["reward"]) or abs(parts[f"turn_{turn}"] - reply["reward"]) < 1e-6
        rewards += reply["reward"]
        if last:
            assert reply["done"]
            assert row["finish_reason"] == ("stop" if ended else "length")
            break
        sampled, begin, stop = pieces[2 * turn - 1]
        assert not sampled and set(logprobs[begin:stop]) == {0.0}
        follow = rendered([*messages, {"role": "assistant", "content": HOLE}, *reply["messages"]]).split(HOLE)[1]
        # The end of a completion is its own last token, unless it was cut off.
        said = encoded(follow)
        if ended:
            assert said[0] == tokenizer.eos_token_id and follow.startswith(end)
            said = said[1:]
        assert tokens[begin:stop] == said, (tokens[begin:stop], said)
        messages += [{"role": "assistant", "content": text}, *reply["messages"]]
    assert abs(row["reward"] - rewards) < 1e-5, (row["reward"], rewards)
    # The engine in the process samples an episode with one version.
    (span,) = row["policy_spans"]
    assert span["start"] == 0
    return turns, otherwise, span["version"]


rows, turns, otherwise, versions = 0, {}, 0, set()
for path in sorted((run / "archive").glob("v1/*/*/p=*/*.parquet")):
    for row in pyarrow.parquet.read_table(path).to_pylist():
        assert row["_bad_reason"] is None, row
        count, odd, version = check(row)
        rows += 1
        turns[count] = turns.get(count, 0) + 1
        otherwise += odd
        versions.add(version)
print(json.dumps({"rows": rows, "turns": turns, "otherwise": otherwise, "versions": sorted(versions)}))
