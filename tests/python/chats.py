"""Renders every template of a folder for every chat of its chats.tsv, as transformers does.

usage: chats.py FOLDER: writes one JSON object a line: template, chat, and its text or that it is refused.
"""

import json
import pathlib
import sys
import warnings

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

warnings.filterwarnings("ignore")
folder = pathlib.Path(sys.argv[1])
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")),
    bos_token="<s>",
    eos_token="</s>",
    pad_token="<pad>",
)
for path in sorted(folder.glob("*.jinja")):
    # As transformers opens it: any end of a line is a line feed.
    template = path.read_text(encoding="utf-8")
    for line in (folder / "chats.tsv").read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        name, chat = line.split("\t", 1)
        chat = json.loads(chat)
        row = {"template": path.stem, "chat": name}
        try:
            continues = chat.get("continue_final_message", False)
            row["text"] = tokenizer.apply_chat_template(
                chat["messages"],
                tools=chat.get("tools"),
                documents=chat.get("documents"),
                chat_template=template,
                add_generation_prompt=not continues,
                continue_final_message=continues,
                tokenize=False,
                **chat.get("chat_template_kwargs", {}),
            )
        except Exception as error:
            row["refused"] = type(error).__name__
        print(json.dumps(row, ensure_ascii=False))
