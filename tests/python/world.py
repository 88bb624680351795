"""An environment for tests, of up to three turns: asks for one digit after the other ("digits"), or
rewards long completions ("length").

usage: world.py digits|length, with a question of an environment command in each line of standard input.
"""

import json
import sys

TURNS = 3


def asked(answer, turn):
    """Digit that a turn, from 1, asks for."""
    return str((int(answer) + 3 * (turn - 1)) % 10)


def reply(kind, turn, turns_left, completion, answer):
    if kind == "digits":
        right = completion == asked(answer, turn)
        reward, over = float(right), not right
    else:
        reward, over = len(completion) / 100, False
    if over or turn == TURNS or turns_left == 0:
        return {"done": True, "reward": reward}
    role = "tool" if kind == "digits" else "user"
    return {"messages": [{"role": role, "content": asked(answer, turn + 1)}], "reward": reward}


def main():
    open_episodes = set()
    for line in sys.stdin:
        question = json.loads(line)
        episode = question["episode"]
        if question.get("abandon"):
            open_episodes.discard(episode)
            continue
        turn, messages = question["turn"], question["messages"]
        # The whole conversation comes with every question, so nothing is lost with a process.
        assert len(messages) == 2 * turn - 1, question
        assert (episode in open_episodes) == (turn > 1), question
        answer = reply(sys.argv[1], turn, question["turns_left"], question["completion"], question["answer"])
        (open_episodes.discard if answer.get("done") else open_episodes.add)(episode)
        print(json.dumps({"id": question["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()
