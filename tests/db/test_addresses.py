"""A database's URL in the formats of other programs."""

import pytest

from db.addresses import address_for
from db.errors import BadDatabaseURL

REMOTE = "postgresql://ann:p%27%20%2F%40%22w@db.example.org:6432/shows?sslmode=require"
SOCKET = "postgresql://showmood@/showmood?host=/run/show%20mood&port=5432"


URL = "ann:p%27 %2F%40%22w@db.example.org:6432/shows?sslmode=require"
JDBC = (
    "jdbc:postgresql://db.example.org:6432/shows"
    "?user=ann&password=p%27%20%2F%40%22w&sslmode=require"
)
ATTACH = (
    "ATTACH 'host=db.example.org port=6432 user=ann password=''p\\'' /@\"w'' dbname=shows"
    " sslmode=require' AS showmood (TYPE postgres, READ_ONLY);"
)
ATTACH_SOCKET = (
    "ATTACH 'host=''/run/show mood'' port=5432 user=showmood dbname=showmood'"
    " AS showmood (TYPE postgres, READ_ONLY);"
)


@pytest.mark.parametrize(
    ("url", "program", "address"),
    [
        (REMOTE, "psycopg", f"postgresql://{URL}"),
        (REMOTE, "sqlalchemy", f"postgresql+psycopg2://{URL}"),
        (REMOTE, "jdbc", JDBC),
        (REMOTE, "duckdb", ATTACH),
        (SOCKET, "duckdb", ATTACH_SOCKET),
        ("postgres://[::1]/x", "jdbc", "jdbc:postgresql://[::1]:5432/x?"),
    ],
)
def test_each_program_has_its_form(url, program, address):
    assert address_for(url, program) == address


def test_jdbc_needs_a_port():
    with pytest.raises(BadDatabaseURL, match="set SHOWMOOD_DATABASE_PORT"):
        address_for(SOCKET, "jdbc")
