"""Two servers, and the provider in both its forms."""

from __future__ import annotations

import pytest

from spoold.provider.client import Provider
from spoold.provider.direct import DirectProvider
from support.serving import Threaded, opened_site


@pytest.fixture
async def one(spool_at, tmp_path):
    async with opened_site("one", spool_at, tmp_path / "one") as site:
        yield site


@pytest.fixture
async def two(spool_at, tmp_path):
    async with opened_site("two", spool_at, tmp_path / "two") as site:
        yield site


@pytest.fixture
def provider_of():
    def of(*sites, **options):
        return DirectProvider([site.endpoint for site in sites], **options)

    return of


@pytest.fixture(params=[Provider, Threaded], ids=["trio", "direct"])
def face(request):
    return request.param


@pytest.fixture
def provider(face):
    def of(*sites, **options):
        return face([site.endpoint for site in sites], **options)

    return of
