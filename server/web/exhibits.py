"""The files of cases as reviewers see them; for everybody else there is nothing at these addresses."""

from __future__ import annotations

from dataclasses import replace

from server.files.desk import FileDesk
from server.files.rows import File
from server.problems import Problem
from server.review.desk import ReviewDesk
from server.web.files import ANY, PREVIEW_TYPE, TicketQuery, show_file, show_preview
from server.web.moderation import MOD
from server.web.routes import Access, Answer, Asked, Route
from signalling.identifiers import Actor

KEPT = f"{MOD}/cases/{{case}}/files/{{file}}"
TICKETED = "/media/cases/{case}/{file}"
PROBLEMS = ("no_session", "file_unknown", "not_stored")
RANGED = (*PROBLEMS, "range_not_satisfiable")


def exhibit_routes(reviews: ReviewDesk, files: FileDesk) -> list[Route]:
    """Return the routes of files that cases keep; that somebody looks is logged first."""

    async def find(actor: Actor, asked: Asked) -> File:
        if not await reviews.reviews(actor):
            raise Problem("not_found")
        return await reviews.look_at_file(actor, asked.path["case"], asked.path["file"])

    def holder(asked: Asked) -> Actor:
        account = files.holder_untrusted(asked.query.ticket)
        return Actor(account, account)

    async def show(asked: Asked) -> Answer:
        return show_file(files, await find(asked.actor, asked), asked)

    async def preview(asked: Asked) -> Answer:
        return await show_preview(files, await find(asked.actor, asked), asked)

    async def show_to_holder(asked: Asked) -> Answer:
        return show_file(files, await find(holder(asked), asked), asked)

    async def preview_to_holder(asked: Asked) -> Answer:
        return await show_preview(files, await find(holder(asked), asked), asked)

    shown = Route("GET", KEPT, "A file that a case keeps; that I looked is logged", show, result=bytes, gives=ANY)
    previewed = replace(shown, path=f"{KEPT}/preview", summary="A small picture of it", serve=preview)
    ticketed = replace(
        shown,
        path=TICKETED,
        summary="The same, by a ticket",
        serve=show_to_holder,
        access=Access.ANYONE,
        query=TicketQuery,
    )
    return [
        replace(shown, problems=RANGED),
        replace(previewed, gives=PREVIEW_TYPE, problems=PROBLEMS),
        replace(ticketed, problems=RANGED),
        replace(ticketed, path=f"{TICKETED}/preview", serve=preview_to_holder, problems=PROBLEMS),
    ]
