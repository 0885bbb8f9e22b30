"""The tools as an assistant calls them: over stdin and stdout of a process of their own, with the `mcp` client."""

import base64
import io
import json
import sys
from pathlib import Path

import anyio
import pytest
from PIL import Image

from openferret.errors import InputError, WeightsError
from openferret.predictor import Ferret
from openferret.serve.folders import AllowedFolders

pytest.importorskip("mcp")
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import TypeAdapter

from openferret.serve.mcp_tools import PictureTools
from openferret.serve.schemas import RegionSpec

EXAMPLES = Path(__file__).parents[2] / "examples" / "pictures"
COMMAND = """
import typer
from openferret.cli.commands import OneLineErrors
from openferret.cli.mcp import mcp
app = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False)
app.command()(mcp)
app.callback()(lambda: None)
app(prog_name="openferret")
"""
BOX = {"type": "box", "x1": 5, "y1": 5, "x2": 40, "y2": 30}


def data_url(size=(60, 40)):
    stream = io.BytesIO()
    Image.new("RGB", size, "gray").save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def tools(tiny, tmp_path):
    """The tools with a tiny model; `tools.encoded` counts the pictures that it has read."""
    ferret = Ferret(tiny.loaded("kit"))
    encode, count = ferret.encode, []
    ferret.encode = lambda picture: count.append(1) or encode(picture)
    made = PictureTools(lambda: ferret, AllowedFolders.of([tmp_path]))
    made.encoded = count
    return made


def read_spec(**form):
    return TypeAdapter(RegionSpec).validate_python(form)


def test_a_reply_is_json_and_the_picture_with_its_boxes(tools):
    reply = tools.locate(data_url(), ["a dog", "a ball"], threshold=0.0)
    words, picture = reply.content
    assert json.loads(words.text) == reply.structured_content
    assert [one["phrase"] for one in reply.structured_content["mentions"]] == ["a dog", "a ball"]
    assert reply.structured_content["image"] == {"width": 60, "height": 40}
    drawn = Image.open(io.BytesIO(base64.b64decode(picture.data)))
    assert (picture.mime_type, max(drawn.size) <= 1280) == ("image/jpeg", True)


def test_one_picture_is_read_once(tools):
    tools.look(data_url())
    tools.look(data_url(), "is there a dog?")
    tools.describe_region(data_url(), read_spec(**BOX))
    assert len(tools.encoded) == 1
    for width in range(61, 66):
        tools.locate(data_url((width, 40)), ["a dog"])
    tools.look(data_url())
    assert len(tools.encoded) == 7


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("../c.png", "no file"),
        ("/etc/hostname", "no file"),
        ("https://example.org/a.png", "nothing is fetched"),
        ("file:///etc/hostname", "nothing is fetched"),
        ("data:image/png;base64,%%%", "not base64"),
        ("data:image/png;base64,AAAA", "not a picture"),
        ("note.txt", "not a picture"),
    ],
)
def test_pictures_that_cannot_be_used_are_told_in_a_sentence(tools, tmp_path, image, said):
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(ToolError, match=said):
        tools.look(image)
    assert not tools.encoded


def test_questions_that_cannot_be_asked_are_told_in_a_sentence(tools):
    with pytest.raises(ToolError, match="empty"):
        tools.locate(data_url(), [" "])
    with pytest.raises(ToolError, match="mask"):
        tools.describe_region(data_url(), read_spec(type="mask", rle={"size": [9, 9], "counts": [0, 81]}))


def test_a_model_that_is_missing_is_told(tmp_path):
    def load():
        raise WeightsError("there is no model")

    with pytest.raises(ToolError, match="there is no model"):
        PictureTools(load, AllowedFolders(())).look(data_url())


async def converse(model, folder):
    words = ["-c", COMMAND, "mcp", "--model", str(model), "--folder", str(folder)]
    replies = {}
    async with Client(stdio_client(StdioServerParameters(command=sys.executable, args=words))) as client:
        replies["tools"] = [tool.name for tool in (await client.list_tools()).tools]
        for name, arguments in (
            ("look", {"image": "a.jpg"}),
            ("locate", {"image": "a.jpg", "phrases": ["a cat"]}),
            ("describe_region", {"image": "a.jpg", "region": BOX}),
            ("refused", {"image": "../b.jpg"}),
            ("deep", {"image": data_url(), "phrases": [["a"]]}),
        ):
            tool = {"refused": "look", "deep": "locate"}.get(name, name)
            replies[name] = await client.call_tool(tool, arguments)
    return replies


def check(replies):
    assert replies["tools"] == ["look", "locate", "describe_region"]
    for name in ("look", "locate", "describe_region"):
        assert not replies[name].is_error, replies[name]
        assert [part.type for part in replies[name].content] == ["text", "image"]
        assert replies[name].structured_content["image"]["width"] > 0
    assert replies["refused"].is_error
    assert "no file" in replies["refused"].content[0].text
    assert replies["deep"].is_error


def test_a_real_client_over_stdio(tiny, tmp_path):
    loaded = tiny.loaded("kit")
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.processor.save_pretrained(tmp_path / "model")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (60, 40), "gray").save(folder / "a.jpg")
    check(anyio.run(converse, tmp_path / "model", folder))


@pytest.mark.slow
def test_a_real_client_with_kit(tmp_path):
    (tmp_path / "a.jpg").write_bytes((EXAMPLES / "chelsea.jpg").read_bytes())
    replies = anyio.run(converse, "kit", tmp_path)
    check(replies)
    (mention,) = replies["locate"].structured_content["mentions"]
    assert mention["boxes"]


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(InputError):
        AllowedFolders.of(["/nowhere/at/all"])
