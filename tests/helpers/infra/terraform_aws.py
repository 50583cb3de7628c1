"""The local AWS with what Terraform reads back and MiniStack does not keep of instances and crawlers.

Its own launcher: run by MiniStack's Python, as `lakefeed_local/ministack/launcher.py` is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

if __name__ == "__main__":
    sys.path.extend(sys.argv[1:])

from lakefeed_local.ministack.asgi import (
    Actions,
    Answer,
    App,
    Call,
    Receive,
    Response,
    Scope,
    Send,
    credential,
    read_body,
    replay,
    request,
    respond,
)

LAUNCHER = Path(__file__)
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"

Form = dict[str, str]
"""The parameters of a call of EC2."""


def wrap(app: App) -> App:
    """Put everything of this module in front of MiniStack."""
    crawlers = {"AWSGlue.CreateCrawler": create_crawler, "AWSGlue.DeleteCrawler": delete_crawler}
    return Instances(Actions(app, crawlers))


# ---- crawlers ----


async def create_crawler(call: Call) -> Answer:
    """Create a crawler with its tags, and with Glue's default of its lineage."""
    defaults = {"LineageConfiguration": {"CrawlerLineageSettings": "DISABLE"}}
    answer = await call.forward(defaults | call.data)
    if answer.succeeded and call.data.get("Tags"):
        await call.ask("TagResource", {"ResourceArn": _crawler_arn(call), "TagsToAdd": call.data["Tags"]})
    return answer


async def delete_crawler(call: Call) -> Answer:
    """Delete a crawler and its tags."""
    answer = await call.forward()
    if answer.succeeded:
        arn = {"ResourceArn": _crawler_arn(call)}
        tags = (await call.ask("GetTags", arn)).data["Tags"]
        await call.ask("UntagResource", {**arn, "TagsToRemove": list(tags)})
    return answer


def _crawler_arn(call: Call) -> str:
    account, region = call.owner
    return f"arn:aws:glue:{region}:{account}:crawler/{call.data['Name']}"


# ---- instances ----


class Instances:
    """An app that keeps what RunInstances asks for: the network, the root volume, the metadata options.

    A RunInstances that is retried with its token is the same instance.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        # By the name of the account's key, and the token.
        self._launched: dict[tuple[str, str], Response] = {}
        self._metadata_options: dict[str, Form] = {}  # by instance
        self._volumes: dict[str, Form] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        signed = credential(scope) if scope["type"] == "http" else None
        if signed is None or signed.service != "ec2":
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        match form.get("Action"):
            case "RunInstances":
                await respond(send, await self._run(scope, form, signed.account))
            case "DescribeInstances" | "DescribeVolumes":
                await respond(send, self._complete(await request(self._app, scope, body)))
            case _:
                await self._app(scope, replay(body, receive), send)

    async def _run(self, scope: Scope, form: Form, account: str) -> Response:
        token = form.get("ClientToken", "")
        if token and (known := self._launched.get((account, token))) is not None:
            return known
        # A public address is asked for in a network interface, and then subnet and groups are in it as well.
        interface = _members(form, "NetworkInterface.1.S")
        asked = form | {f"S{name}": value for name, value in interface.items()}
        response = await request(self._app, scope, urlencode(asked).encode())
        if response.status != 200:
            return response
        for instance in _elements(response, "instanceId"):
            name = _child(instance, "instanceId").text or ""
            self._metadata_options[name] = _members(form, "MetadataOptions.")
            for device in instance.iterfind("./{*}blockDeviceMapping/{*}item"):
                volume = _child(_child(device, "ebs"), "volumeId").text or ""
                self._volumes[volume] = _volume(form, _child(device, "deviceName").text or "")
        completed = self._complete(response)
        if token:
            self._launched[account, token] = completed
        return completed

    def _complete(self, response: Response) -> Response:
        """A description of instances or volumes with what was asked for."""
        if response.status != 200:
            return response
        root = _parse(response)
        for instance in _having(root, "instanceId"):
            options = self._metadata_options.get(_child(instance, "instanceId").text or "")
            if options:
                self._add_metadata_options(instance, options)
        for volume in _having(root, "volumeId"):
            for name, value in self._volumes.get(_child(volume, "volumeId").text or "", {}).items():
                found = volume.find(f"./{{*}}{name}")
                if found is None:
                    found = ElementTree.SubElement(volume, f"{{{_NAMESPACE}}}{name}")
                found.text = value
        ElementTree.register_namespace("", _NAMESPACE)
        return Response(response.status, response.headers, ElementTree.tostring(root, "utf-8"))

    @staticmethod
    def _add_metadata_options(instance: ElementTree.Element, options: Form) -> None:
        shown = {"state": "applied", "httpProtocolIpv6": "disabled", "instanceMetadataTags": "disabled"}
        shown |= {name[0].lower() + name[1:]: value for name, value in options.items()}
        added = ElementTree.SubElement(instance, f"{{{_NAMESPACE}}}metadataOptions")
        for name, value in shown.items():
            ElementTree.SubElement(added, f"{{{_NAMESPACE}}}{name}").text = value


def _volume(form: Form, device: str) -> Form:
    """What RunInstances asks of the volume of a device, as DescribeVolumes names it."""
    number = 1
    while name := form.get(f"BlockDeviceMapping.{number}.DeviceName"):
        if name == device:
            asked = _members(form, f"BlockDeviceMapping.{number}.Ebs.")
            asked["Size"] = asked.pop("VolumeSize", "")
            shown = ("Size", "VolumeType", "Encrypted", "Iops", "Throughput")
            return {each[0].lower() + each[1:]: asked[each] for each in shown if asked.get(each)}
        number += 1
    return {}


def _members(form: Form, prefix: str) -> Form:
    return {name.removeprefix(prefix): value for name, value in form.items() if name.startswith(prefix)}


def _elements(response: Response, child: str) -> Iterator[ElementTree.Element]:
    return _having(_parse(response), child)


def _parse(response: Response) -> ElementTree.Element:
    return ElementTree.fromstring(response.body)  # noqa: S314 - it is MiniStack's


def _having(root: ElementTree.Element, child: str) -> Iterator[ElementTree.Element]:
    """The items that have such a child and are described as a whole."""
    whole = {"instanceId": "instanceState", "volumeId": "createTime"}[child]
    for item in root.iterfind(".//{*}item"):
        if item.find(f"./{{*}}{child}") is not None and item.find(f"./{{*}}{whole}") is not None:
            yield item


def _child(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    found = parent.find(f"./{{*}}{name}")
    assert found is not None, f"MiniStack's {parent.tag} has no {name}"
    return found


if __name__ == "__main__":
    from lakefeed_local.ministack.server import main

    main(wrap)
