"""Checkpoints that are damaged, foreign or hostile get one sentence, and nothing large is read on their word."""

import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from astrom3.errors import UserError
from astrom3.published import astromer, releases
from astrom3.published.compression import CorruptError, crc32c, snappy_decompress
from astrom3.published.tensorflow import FOOTER, MAGIC, read_index

CHECKPOINT = Path(__file__).parent / "conformance" / "astromer" / "tf-checkpoint-v1"
DATA = "weights.data-00000-of-00001"


@pytest.fixture
def folder(tmp_path):
    """A copy of a small checkpoint of the original code, without the HDF5 form."""
    copy = tmp_path / "model"
    copy.mkdir()
    for name in ("conf.json", "weights.index", DATA, "checkpoint"):
        shutil.copyfile(CHECKPOINT / name, copy / name)
    return copy


def sentence(source):
    """The one sentence that loading gives."""
    with pytest.raises(UserError) as caught:
        astromer.load(source)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def overwrite(path, position, piece):
    data = bytearray(path.read_bytes())
    data[position : position + len(piece)] = piece
    path.write_bytes(data)


def masked_crc(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block(entries):
    """A table's block with whole keys, its type and checksum."""
    content = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in entries)
    content += struct.pack("<II", 0, 1) + b"\0"
    return content + struct.pack("<I", masked_crc(content))


def table(blocks, handles=None):
    """An index file of data blocks; `handles` replaces the offsets and sizes that lead to them."""
    body = b"".join(blocks)
    right = []
    offset = 0
    for piece in blocks:
        right.append((offset, len(piece) - 5))
        offset += len(piece)
    listed = [(b"%c" % (97 + i), varint(a) + varint(n)) for i, (a, n) in enumerate(handles or right)]
    index = block(listed)
    footer = varint(0) + varint(0) + varint(len(body)) + varint(len(index) - 5)
    return body + index + footer.ljust(FOOTER - 8, b"\0") + MAGIC.to_bytes(8, "little")


HEADER = (b"", b"\x08\x01")  # one data file


def test_a_zip_gives_what_the_folder_gives(folder, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path, "model")
    ours = astromer.load(folder)[0].state_dict()
    theirs = astromer.load(archive)[0].state_dict()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert astromer.recognises(archive)
    assert not astromer.recognises(tmp_path / "nothing")


def test_without_the_leak_no_output_depends_on_a_hidden_magnitude(folder):
    encoder, _, _ = astromer.load(folder, as_published=False)
    assert encoder.compat is None
    assert encoder.hidden_value == "token"
    assert encoder.mask_format == "key"


def test_weights_that_do_not_fit_their_configuration(folder):
    config = json.loads((folder / "conf.json").read_text())

    def message(**changes):
        (folder / "conf.json").write_text(json.dumps(config | changes))
        return sentence(folder)

    assert "layer_with_weights-0/enc_layers/1/" in message(layers=1)
    assert "left over" in message(layers=1)
    assert "lacks layer_with_weights-0/enc_layers/2/" in message(layers=3)
    assert "asks for (1, 16)" in message(head_dim=16)
    assert "heads" in message(heads=3)
    assert "layers=-1" in message(layers=-1)
    assert "n_heads=true" in message(heads=True)
    assert "d_model=1e+300" in message(head_dim=1e300)
    assert "far more" in message(layers=100, head_dim=8192)
    (folder / "conf.json").write_text("{}")
    assert "lacks layers" in sentence(folder)
    (folder / "conf.json").write_text("[" * 100_000)
    assert "not valid" in sentence(folder)
    (folder / "conf.json").write_bytes(b"\xff\xfe")
    assert "not valid" in sentence(folder)


def test_every_damaged_byte_of_the_data_file_is_seen(folder):
    data = (folder / DATA).read_bytes()
    for position in (0, 5000, 25_000):
        overwrite(folder / DATA, position, bytes([data[position] ^ 1]))
        assert "checksum of the variable" in sentence(folder)
        (folder / DATA).write_bytes(data)
    (folder / DATA).write_bytes(data[: len(data) // 2])
    assert "ends before" in sentence(folder)
    (folder / DATA).unlink()
    assert "has no file weights.data" in sentence(folder)


def test_any_damage_of_the_index_is_one_sentence(folder):
    """Truncated anywhere, and with any one byte changed, where it matters."""
    data = (CHECKPOINT / "weights.index").read_bytes()
    for length in range(0, len(data), 97):
        with pytest.raises(UserError):
            read_index(data[:length], "weights.index")
    random = np.random.default_rng(0)
    for position in random.integers(0, len(data), 200):
        changed = bytearray(data)
        changed[position] ^= 1 << int(random.integers(8))
        try:
            bundle = read_index(bytes(changed), "weights.index")
        except UserError:
            continue
        assert bundle.entries == read_index(data, "weights.index").entries  # padding of the footer


def test_hostile_tables():
    def reason(data):
        with pytest.raises(UserError) as caught:
            read_index(data, "weights.index")
        return str(caught.value)

    good = block([HEADER, (b"x", b"\x08\x01")])
    assert list(read_index(table([good]), "weights.index").entries) == ["x"]
    assert "overlap" in reason(table([good], [(0, len(good) - 5)] * 3))  # the same block again and again
    assert "reaches beyond" in reason(table([good], [(0, 1 << 40)]))
    assert "reaches beyond" in reason(table([good], [(1 << 62, 8)]))
    assert "no header" in reason(table([block([(b"x", b"\x08\x01")])]))
    assert "data files" in reason(table([block([(b"", b"\x08\xff\xff\xff\x7f")])]))
    assert "big-endian" in reason(table([block([(b"", b"\x08\x01\x10\x01")])]))
    assert "order" in reason(table([block([HEADER, (b"x", b""), (b"x", b"")])]))
    assert "not text" in reason(table([block([HEADER, (b"\xff", b"")])]))
    assert "does not end" in reason(table([block([HEADER, (b"x", b"\x08" + b"\xff" * 11)])]))
    assert "cut off" in reason(table([block([HEADER, (b"x", b"\x12\x7f")])]))
    assert "absurd" in reason(table([block([HEADER, (b"x", b"\x28" + varint((1 << 64) - 1))])]))
    assert "slices" in reason(table([block([HEADER, (b"x", b"\x3a\x00")])]))
    assert "restarts" in reason(table([restarts(1 << 30)]))


def restarts(count):
    content = struct.pack("<I", count) + b"\0"
    return content + struct.pack("<I", masked_crc(content))


def test_compressed_blocks():
    assert snappy_decompress(memoryview(b"\x0b\x28hello world"), 100) == b"hello world"
    assert snappy_decompress(memoryview(b"\x0a\x04ab\x1e\x02\x00"), 100) == b"ababababab"
    for bad in (
        b"",
        b"\xff\xff\xff\xff\xff",
        b"\x0a\x04ab",
        b"\x0a\x04ab\x1e\x03\x00",
        b"\x05\x28hello",
        b"\x05\x28hello world",
    ):
        with pytest.raises(CorruptError):
            snappy_decompress(memoryview(bad), 100)
    with pytest.raises(CorruptError):
        snappy_decompress(memoryview(b"\xff\xff\xff\x7f\x00"), 1 << 20)


def test_crc32c_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.slow
def test_archives_that_lie(folder, tmp_path):
    def archive(members):
        path = tmp_path / "model.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, data in members.items():
                zipped.writestr(name, data)
        return path

    files = {f"m/{name}": (folder / name).read_bytes() for name in ("conf.json", "weights.index", DATA)}
    assert astromer.load(archive(files))
    assert "points outside" in sentence(archive(files | {"../evil": b""}))
    assert "points outside" in sentence(archive(files | {"/etc/evil": b""}))
    assert "points outside" in sentence(archive(files | {"m\\..\\..\\evil": b""}))
    assert "several models" in sentence(archive(files | {"n/conf.json": b"{}"}))
    assert "no conf.json" in sentence(archive({"a.txt": b""}))
    assert "claims" in sentence(archive(files | {f"m/{DATA}": bytes(1 << 26)}))
    assert "claims" in sentence(archive(files | {"m/conf.json": bytes(1 << 26)}))
    path = archive(files)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    assert "damaged" in sentence(path) or "checksum" in sentence(path)
    path.write_bytes(bytes(data[: len(data) // 2]))
    assert "not a zip archive" in sentence(path)


def test_hdf5_files_that_are_damaged_or_point_elsewhere(tmp_path):
    h5py = pytest.importorskip("h5py")
    shutil.copyfile(CHECKPOINT / "conf.json", tmp_path / "conf.json")
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"not hdf5")
    assert "not an HDF5 file" in sentence(tmp_path)
    weights.write_bytes((CHECKPOINT / "weights.h5").read_bytes()[:40_000])
    assert "damaged" in sentence(tmp_path)
    for link in (h5py.ExternalLink("/etc/passwd", "/x"), h5py.SoftLink("/encoder")):
        shutil.copyfile(CHECKPOINT / "weights.h5", weights)
        with h5py.File(weights, "a") as file:
            file["encoder/elsewhere"] = link
        assert "is a link" in sentence(tmp_path)
    shutil.copyfile(CHECKPOINT / "weights.h5", weights)
    with h5py.File(weights, "a") as file:
        file["encoder/more"] = np.zeros(3, np.float32)
    assert "encoder/more left over" in sentence(tmp_path)
    with h5py.File(weights, "a") as file:
        del file["encoder/more"]
        file["encoder/itself"] = file["encoder"]
    assert "more groups" in sentence(tmp_path)
    with h5py.File(weights, "w") as file:
        file.create_dataset("huge", (1 << 20, 1 << 20), np.float32, chunks=(64, 64))
    assert "more numbers" in sentence(tmp_path)


def test_short_names_say_what_to_do(folder, tmp_path, monkeypatch):
    nowhere = releases.Release("macho_a0.zip", "http://127.0.0.1:9/macho_a0.zip", "0" * 64)
    monkeypatch.setitem(releases.RELEASES, "astromer1-macho", nowhere)
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASTROM3_WEIGHTS", raising=False)
    message = sentence("astromer1-macho")
    assert "cannot be fetched" in message
    assert "ASTROM3_WEIGHTS" in message
    shutil.make_archive(str(tmp_path / "macho_a0"), "zip", tmp_path, "model")
    monkeypatch.setenv("ASTROM3_WEIGHTS", str(tmp_path))
    assert "SHA-256" in sentence("astromer1-macho")
    unchecked = releases.Release("macho_a0.zip", nowhere.url)
    monkeypatch.setitem(releases.RELEASES, "astromer1-macho", unchecked)
    assert astromer.load("astromer1-macho")[2]["layers"] == 2
