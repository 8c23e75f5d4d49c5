from ipaddress import ip_network

import pytest

from flows.capture.address import LOOPBACK, STREAM_SCHEMES, AddressPolicy
from flows.capture.segment import SourceUnreachable, UnsafeURL


@pytest.mark.parametrize(
    "url",
    [
        "",
        "demo",
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "concat:/etc/passwd|/etc/hosts",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "data:text/plain,x",
        "ftp://93.184.215.14/x",
        "tcp://93.184.215.14:80",
        "hls+http://93.184.215.14/x",
        "crypto+http://93.184.215.14/x",
        "rtmp://93.184.215.14/live",
        "http://",
        "http:///x",
        "http://[::1",
        "http://93.184.215.14:99999/",
        "http://user@93.184.215.14/",
        "http://user:secret@93.184.215.14/",
        "http://93.184.215.14/a b",
        "http://93.184.215.14/\nHost: x",
        "http://93.184.215.14\\@127.0.0.1/",
        "http://93.184.215.14%00.example/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1:8080/live.m3u8",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[ff02::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:a00:1::]/",
        "http://localhost:4200/",
        "http://93.184.215.14/" + "a" * 9000,
    ],
)
def test_is_refused(url: str) -> None:
    with pytest.raises(UnsafeURL) as caught:
        AddressPolicy().check(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["[::7f00:1]", "[64:ff9b:1::a00:1]", "[fec0::1]", "[64:ff9b::7f00:1]", "[::ffff:127.0.0.1]"],
)
def test_old_and_local_forms_of_ipv6_are_no_public_addresses(host: str) -> None:
    with pytest.raises(UnsafeURL, match="internal address"):
        AddressPolicy().check(f"http://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        "rtmp://user:secret@example.com/live",
        "http://user:secret@[::1/",
        "http://user:secret@example.com/" + 9000 * "x",
    ],
)
def test_no_error_repeats_a_password(url: str) -> None:
    with pytest.raises(UnsafeURL) as caught:
        AddressPolicy().check(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://93.184.215.14/x", "HTTPS://93.184.215.14:8443/x?a=b#c", "https://[2606:4700::1111]/"],
)
def test_a_public_address_is_allowed(url: str) -> None:
    assert len(AddressPolicy().check(url)) == 1


def test_a_named_network_is_allowed_and_no_other() -> None:
    policy = AddressPolicy(allow_networks=(*LOOPBACK, ip_network("10.1.0.0/16")))
    assert str(policy.check("http://127.0.0.1:8080/live.m3u8")[0]) == "127.0.0.1"
    policy.check("http://10.1.2.3/")
    policy.check("http://[::ffff:10.1.2.3]/")
    with pytest.raises(UnsafeURL, match=r"10\.2\.2\.3"):
        policy.check("http://10.2.2.3/")


def test_a_stream_may_have_other_schemes_than_a_page() -> None:
    policy = AddressPolicy()
    policy.check("rtmp://93.184.215.14/live", schemes=STREAM_SCHEMES)
    with pytest.raises(UnsafeURL):
        policy.check("rtmp://10.0.0.1/live", schemes=STREAM_SCHEMES)
    with pytest.raises(UnsafeURL):
        policy.check("file:///etc/passwd", schemes=STREAM_SCHEMES)


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(SourceUnreachable, match="no such host"):
        AddressPolicy().check("http://host.invalid/")
