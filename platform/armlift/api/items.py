"""POST /v1/items: items' availability, and the attributes that filters look at."""

from typing import Annotated

from fastapi import APIRouter, Body

from armlift import items
from armlift.api.models import Accepted, ItemBatch
from armlift.api.samples import ITEMS, errors
from armlift.days import utc_now
from armlift.serving.service import Service
from armlift.store.database import writing


def routes(service: Service) -> APIRouter:
    """Make the route."""
    router = APIRouter(prefix="/v1", tags=["items"])

    @router.post("/items", responses=errors(401, 403, 413, 422, 429, 503))
    def post_items(batch: Annotated[ItemBatch, Body(openapi_examples=ITEMS)]) -> Accepted:
        """Tell items as they are now; slates follow within a second."""
        now = utc_now()
        rows = [items.Item(one.item_id, one.available, dict(one.attributes), now) for one in batch.items]
        with writing(service.engine) as connection:
            items.put(connection, rows)
        service.catalogue.refresh()
        return Accepted(accepted=len(rows))

    return router
