"""Drives the server with the Python SDK, as its applications do.

    python3 drive.py URL FOLDER

FOLDER holds the packages as scripts/fetch-sdk makes it. The superuser comes from ADMIN_EMAIL and ADMIN_PASSWORD. Prints
`ok NAME` for each step and ends with 1 at the first that fails. Every name it makes carries a suffix of its own.
"""

import os
import queue
import secrets
import sys
import threading
import traceback
from unittest import mock

URL, FOLDER = sys.argv[1:3]
sys.path.insert(0, FOLDER)

from pocketbase import PocketBase  # noqa: E402
from pocketbase.errors import ClientResponseError  # noqa: E402

SUFFIX = secrets.token_hex(4)
PASSWORD = "correct-horse"
guest, ada, admin = PocketBase(URL), PocketBase(URL), PocketBase(URL)
kept = {}
STEPS = []


def step(function):
    STEPS.append(function)
    return function


def refused(status, call, *arguments):
    """The error that a call ends with; a success is a failure here."""
    try:
        call(*arguments)
    except ClientResponseError as error:
        assert error.status == status, f"{error.status} instead of {status}: {error.data}"
        return error
    raise AssertionError("it was not refused")


@step
def health():
    assert guest.health.check().code == 200


@step
def superuser_signs_in():
    admin.collection("_superusers").auth_with_password(os.environ["ADMIN_EMAIL"], os.environ["ADMIN_PASSWORD"])
    assert admin.auth_store.token


@step
def an_oracle_registers_and_is_approved():
    email = f"py{SUFFIX}@sdk.test"
    body = {"name": "Py", "email": email, "password": PASSWORD, "passwordConfirm": PASSWORD}
    record = guest.collection("oracles").create(body)
    kept["oracle"] = record.id
    assert record.approved is False
    signed = ada.collection("oracles").auth_with_password(email, PASSWORD)
    assert signed.record.id == record.id and signed.is_valid
    refused(400, ada.collection("posts").create, {"title": "t", "content": "c"})
    assert admin.collection("oracles").update(record.id, {"approved": True}).approved is True
    assert ada.collection("oracles").auth_refresh().record.approved is True


@step
def auth_methods():
    methods = guest.collection("oracles").list_auth_methods()
    assert methods.password.enabled and methods.password.identity_fields == ["email"]


@step
def records_are_created():
    post = ada.collection("posts").create({"title": f"Python {SUFFIX}", "content": "it's \"quoted\" 🦞"})
    assert post.author == kept["oracle"] and post.upvotes == 0
    kept["post"] = post.id
    ada.collection("comments").create({"post": post.id, "content": "a comment"})
    assert ada.collection("heartbeats").create({"status": "online"}).status == "online"


@step
def lists():
    query = {"filter": f'title ~ "{SUFFIX}"', "sort": "-created", "expand": "author"}
    page = guest.collection("posts").get_list(1, 10, dict(query))
    assert (page.total_items, page.total_pages, page.per_page) == (1, 1, 10)
    assert page.items[0].expand["author"].name == "Py"
    assert [post.id for post in guest.collection("posts").get_full_list(1, dict(query))] == [kept["post"]]
    assert guest.collection("posts").get_first_list_item(f'title = "Python {SUFFIX}"').id == kept["post"]
    refused(404, guest.collection("posts").get_first_list_item, f'title = "nothing {SUFFIX}"')


@step
def one_record():
    one = guest.collection("posts").get_one(kept["post"], {"expand": "comments_via_post.author"})
    assert one.expand["comments_via_post"][0].content == "a comment"
    error = refused(404, guest.collection("posts").get_one, "nope")
    assert error.data["message"] == "The requested resource wasn't found."


@step
def errors_name_their_fields():
    error = refused(400, ada.collection("posts").create, {"title": "t" * 201, "content": ""})
    assert error.data["data"]["title"]["code"] == "validation_max_text_constraint"
    assert error.data["data"]["content"]["code"] == "validation_required"
    refused(400, guest.collection("posts").get_list, 1, 1, {"filter": "nope = 1"})


@step
def realtime():
    events = queue.Queue()
    ready = queue.Queue()
    # The SDK subscribes from a thread of its own and says nothing; what it sends last is the subscription.
    guest.after_send = lambda response, data, options: ready.put(options.get("method")) or data
    # It starts that thread before it listens to what it reads: where the first event is faster, it never subscribes,
    # whatever the server does. The thread starts once the SDK listens.
    with mock.patch.object(threading.Thread, "start", autospec=True) as start:
        guest.collection("posts").subscribe(events.put)
    for call in start.call_args_list:
        call.args[0].start()
    assert ready.get(timeout=20) == "POST"
    ada.collection("posts").update(kept["post"], {"content": "changed"})
    event = events.get(timeout=20)
    assert (event.action, event.record.id, event.record.content) == ("update", kept["post"], "changed")
    guest.collection("posts").unsubscribe()


@step
def update_and_delete():
    assert ada.collection("posts").update(kept["post"], {"title": "other"}).title == "other"
    refused(400, ada.collection("posts").delete, kept["post"])
    post = ada.collection("posts").create({"title": f"Short {SUFFIX}", "content": "c"})
    assert ada.collection("posts").delete(post.id) is True
    refused(404, guest.collection("posts").get_one, post.id)


@step
def own_routes():
    vote = ada.send(f"/api/posts/{kept['post']}/upvote", {"method": "POST"})
    assert vote["success"] is True and vote["upvotes"] == 1
    assert ada.send("/api/oracles/me", {"method": "GET"})["id"] == kept["oracle"]


for run in STEPS:
    try:
        run()
    except Exception:  # noqa: BLE001 - whatever it is, it is the failure of this step
        traceback.print_exc()
        print(f"FAILED {run.__name__}", file=sys.stderr, flush=True)
        os._exit(1)
    print(f"ok {run.__name__}", flush=True)
# The SDK's thread for events may be waiting for ever.
sys.stdout.flush()
os._exit(0)
