"""Generators of what is common to all kinds: numbers, texts, names, JSON, damaged files, safetensors."""

from __future__ import annotations

import json
import math
import pickle
import struct

from hypothesis import strategies as st

numbers = st.one_of(
    st.sampled_from(
        [
            0,
            1,
            -1,
            2,
            3,
            4,
            0.5,
            1e-9,
            1e9,
            2**31,
            2**63,
            2**64,
            -(2**63),
            1e308,
            math.nan,
            math.inf,
            -math.inf,
        ]
    ),
    st.integers(-5, 300),
    st.floats(),
)
texts = st.one_of(
    st.sampled_from(
        ["", " ", "*", "<rain>", "<two>", "\\*", "\\<", "<", "<>", "a city under *", "* and <rain>", "*" * 90]
        + [
            "caf\udce9",
            "half \ud83d",
            "\U0001f327 *",
            "雨＊",
            "a\nb",
            "a\0b",
            "<!--",
            "(city:1.5) *",
            "x" * 3000,
        ]
        + ["../x", "/etc/passwd", "CON", "%s %d {}", "‮abc", "embedding:rain", "a " * 200 + "*", "*\u0301"]
    ),
    st.text(max_size=30),
    st.text(st.characters(codec=None, categories=None), max_size=12),
    st.text("*<>\\ab(): ,.", max_size=16),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts, st.just("NaN")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def _is_name(name: str) -> bool:
    try:
        return 0 < len(name.encode("utf-8", "surrogateescape")) <= 150
    except UnicodeEncodeError:
        return False


stems = st.one_of(
    st.sampled_from(
        ["a", "rain", "thunder (1)", "a&b", "it's", "x,y", "caf\udce9", "雨", "CON", "a:b", "n" * 120]
        + [
            "id_5000_15000",
            "-1abc_000010",
            "YabcDEFghijk_30.000",
            "a\\b",
            "a\nb",
            "#1",
            "train",
            "*",
            "<b>",
            ".h",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
        lambda name: name not in (".", "..") and _is_name(name)
    ),
)


def mostly(fitting, odd):
    """What fits, and in one draw of ten what does not."""
    return st.integers(0, 9).flatmap(lambda draw: odd if draw == 9 else fitting)


@st.composite
def damaged(draw, contents: list[bytes], most: int = 4) -> bytes:
    """One of these files, cut, flipped, written over, or with a part of another within."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, most))):
        if not content:
            break
        at = draw(st.one_of(st.integers(0, min(127, len(content) - 1)), st.integers(0, len(content) - 1)))
        change = draw(
            st.sampled_from(["cut", "flip", "set", "number", "insert", "remove", "repeat", "splice"])
        )
        if change == "cut":
            del content[at:]
        elif change == "flip":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "set":
            some = draw(st.sampled_from([b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\0" * 16]))
            content[at : at + len(some)] = some
        elif change == "number":
            order, size = draw(st.sampled_from("<>")), draw(st.sampled_from("HIQ"))
            value = draw(
                st.sampled_from([0, 1, 7, 999, 8000, 32767, 65535, 6000011, 2**31 - 1, 2**32 - 1, 2**63])
            )
            raw = struct.pack(order + size, value % 2 ** (8 * struct.calcsize(size)))
            content[at : at + len(raw)] = raw
        elif change == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif change == "remove":
            del content[at : at + draw(st.integers(1, 40))]
        elif change == "repeat":
            content[at:at] = content[at : at + 64] * draw(st.integers(1, 8))
        else:
            other = draw(st.sampled_from(contents))
            content[at:] = other[min(at, len(other)) :]
    return bytes(content)


def packed(header: object, data: bytes) -> bytes:
    """A safetensors file."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def unpacked(content: bytes) -> tuple[dict, bytes]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


@st.composite
def changed(draw, value: object, depth: int = 6):
    """JSON with one thing in it replaced, left out, or renamed. JSON in its texts is read too."""
    if isinstance(value, str) and value[:1] in "{[" and depth:
        try:
            return json.dumps(draw(changed(json.loads(value), depth - 1)))
        except ValueError:
            pass
    if not isinstance(value, dict | list) or not value or not depth or draw(st.integers(0, 5)) == 0:
        return draw(json_values)
    if isinstance(value, list):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(changed(value[place], depth - 1)), *value[place + 1 :]]
    key = draw(st.sampled_from(sorted(value)))
    how = draw(st.integers(0, 9))
    if how == 0:
        return {k: v for k, v in value.items() if k != key}
    if how == 1:
        return {(draw(texts) if k == key else k): v for k, v in value.items()}
    return {**value, key: draw(changed(value[key], depth - 1))}


def _texts_only(header: dict) -> dict:
    """safetensors' metadata are texts, or the file would end at its reader."""
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict):
        header = {
            **header,
            "__metadata__": {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()},
        }
    return header


@st.composite
def edited(draw, contents: list[bytes]) -> bytes:
    """A safetensors file that is whole, but says something else in its metadata, its names, its shapes or
    its numbers; one that is damaged already stays as it is."""
    content = draw(st.sampled_from(contents))
    try:
        header, data = unpacked(content)
    except ValueError:
        return content
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        how = draw(st.integers(0, 9))
        names = sorted(name for name in header if name != "__metadata__")
        if how <= 4 and header.get("__metadata__"):
            header["__metadata__"] = draw(changed(header["__metadata__"]))
        elif names and how in (5, 6):
            name = draw(st.sampled_from(names))
            header[draw(st.one_of(texts, st.sampled_from(names)))] = header.pop(name)
        elif names and how == 7:
            entry = header[draw(st.sampled_from(names))]
            shape = entry["shape"]
            entry["shape"] = draw(
                st.sampled_from([shape[::-1], [1, *shape], [math.prod(shape)], [*shape, 1]])
            )
        elif names and how == 8:
            entry = header[draw(st.sampled_from(names))]
            other = {"F32": ["I32", "U32"], "F16": ["BF16", "I16"], "I64": ["F64"], "U8": ["I8", "BOOL"]}
            entry["dtype"] = draw(st.sampled_from(other.get(entry["dtype"], ["F32"])))
        elif data:
            at = draw(st.integers(0, len(data) - 1))
            some = draw(st.sampled_from([b"\xff\xff\xff\x7f", b"\0\0\x80\x7f", b"\xff" * 64, b"\0" * 64]))
            data = (data[:at] + some + data[at + len(some) :])[: len(data)]
    return packed(_texts_only(header), data)


class _Program:
    """What a pickle would run."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@st.composite
def pickles(draw, marker: str) -> bytes:
    """Pickles, torch's among them, of tensors of any shape, other things, and programs."""
    import io

    import torch

    tensors = st.builds(
        lambda shape, value, kind: torch.full(shape, value).to(kind),
        st.lists(st.integers(0, 8), max_size=3),
        st.sampled_from([0.5, math.nan, math.inf]),
        st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]),
    )
    strange = st.sampled_from(
        [torch.zeros(1).expand(4096, 65536), torch.zeros(3, 4).to_sparse(), torch.zeros(2, 4, device="meta")]
    )
    program = st.builds(_Program, st.just(marker))
    leaves = st.one_of(*[tensors] * 8, strange, program, st.none(), texts)
    keys = st.one_of(
        st.sampled_from(["string_to_param", "*", "clip_l", "clip_g", "emb_params", "name"]), texts
    )
    value = draw(
        st.one_of(
            leaves,
            st.dictionaries(keys, leaves, max_size=3),
            st.fixed_dictionaries(
                {"string_to_param": st.dictionaries(keys, leaves, max_size=2), "name": leaves}
            ),
            st.lists(st.dictionaries(keys, leaves, max_size=2), max_size=2),
        )
    )
    content = io.BytesIO()
    if draw(st.integers(0, 4)):
        torch.save(value, content, _use_new_zipfile_serialization=draw(st.booleans()))
    else:
        pickle.dump(value, content)
    return draw(st.one_of(st.just(content.getvalue()), damaged([content.getvalue()], 1)))
