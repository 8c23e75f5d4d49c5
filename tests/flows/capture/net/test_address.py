import socket
from ipaddress import ip_address, ip_network

import pytest

from flows.capture.net import public
from flows.capture.net.address import LOOPBACK, STREAM_SCHEMES, AddressPolicy
from flows.capture.net.upstream import Upstream
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
    [
        "192.0.0.1",
        "192.0.0.192",  # Oracle's metadata
        "192.88.99.1",
        "168.63.129.16",  # Azure's platform
        "161.26.0.10",  # IBM's services
        "166.9.0.1",
        "100.100.100.200",  # Alibaba's metadata
        "198.19.255.255",
        "203.0.113.9",
        "240.0.0.1",
        "[::7f00:1]",  # IPv4-compatible
        "[::ffff:127.0.0.1]",  # IPv4-mapped
        "[::ffff:168.63.129.16]",
        "[::ffff:0:127.0.0.1]",  # IPv4-translated
        "[64:ff9b::7f00:1]",  # NAT64
        "[64:ff9b::168.63.129.16]",
        "[64:ff9b:1::a00:1]",
        "[64:ff9b:1::93.184.215.14]",
        "[2002:a00:1::]",  # 6to4
        "[2002:5db8:d70e::]",
        "[2001:0:5db8:d70e::f5ff:fffe]",  # Teredo
        "[2606:4700::5efe:10.0.0.1]",  # ISATAP
        "[2606:4700::200:5efe:10.0.0.1]",
        "[fec0::1]",
        "[fd00:ec2::254]",  # Amazon's metadata
        "[fd20:ce::254]",  # Google's
        "[3fff::1]",
        "[3fff:fff:ffff::1]",
        "[100::1]",
        "[100:0:0:1::1]",
        "[2001:db8::1]",
        "[2001:2::1]",
        "[5f00::1]",
        "[4000::1]",  # nobody was given it
        "[fe80::1%251]",
    ],
)
def test_addresses_that_are_not_globally_reachable_are_refused(host: str) -> None:
    with pytest.raises(UnsafeURL, match=r"internal address|names no host"):
        AddressPolicy().check(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        "192.0.0.9",
        "192.0.1.1",
        "192.31.196.1",
        "168.63.129.17",
        "172.32.0.1",
        "[64:ff9b::93.184.215.14]",
        "[2001:4860:4860::8888]",
        "[2001:20::1]",
        "[2606:4700::5eff:10.0.0.1]",
        "[3fff:1000::1]",
    ],
)
def test_globally_reachable_addresses_are_allowed(host: str) -> None:
    assert AddressPolicy().check(f"http://{host}/")


def test_our_own_addresses_are_not_public(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the registries said of these that they are public, as a server's own are.
    monkeypatch.setattr(public, "_NOT_GLOBAL_V4", ())
    assert not public.is_public(ip_address("127.0.0.1"))
    assert public.is_public(ip_address("192.0.2.1"))


def test_a_host_with_an_internal_address_among_thousands_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_up(host: str, port: int, **_: object) -> list[object]:
        found = [f"93.184.{n // 256}.{n % 256}" for n in range(1000)] + [host[:-4]]
        return [(0, 0, 0, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert len(AddressPolicy().check("http://93.184.9.9.com/")) == 8
    with pytest.raises(UnsafeURL, match=r"10\.0\.0\.1 is an internal"):
        AddressPolicy().check("http://10.0.0.1.com/")


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


@pytest.mark.parametrize(
    ("url", "named", "fits"),
    [
        ("rtmp://93.184.215.14/live", "93.184.215.14:1935", True),
        ("rtmps://93.184.215.14/live", "93.184.215.14:443", True),
        ("rtsp://93.184.215.14/live", "93.184.215.0/24", True),
        ("rtsp://10.0.0.1:8554/live", "10.0.0.1:8554", True),
        ("srt://93.184.215.14:9000", "93.184.215.14:9000", True),
        ("rtmp://93.184.215.14/live", "", False),
        ("rtsp://93.184.215.14/live", "93.184.215.14:555", False),
        ("rtsp://10.0.0.1/live", "", False),
        ("srt://93.184.215.14", "93.184.215.14:9000", False),
        ("file:///etc/passwd", "0.0.0.0/0", False),
        ("httpproxy://93.184.215.14/", "0.0.0.0/0", False),
    ],
)
def test_other_schemes_are_accepted_only_from_named_servers(
    url: str, named: str, fits: bool
) -> None:
    policy = AddressPolicy.of(filter(None, [named]))
    if fits:
        assert policy.check(url, schemes=STREAM_SCHEMES)
    else:
        with pytest.raises(UnsafeURL):
            policy.check(url, schemes=STREAM_SCHEMES)


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(SourceUnreachable, match="no such host"):
        AddressPolicy().check("http://host.invalid/")


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1.",
        "169.254.169.254",
        "2130706433",
        "0x7f.1.",
        "[::1]",
        "LOCALHOST.",
        "a.localhost",
        "ip6-localhost",
        "localhost.localdomain",
        "\uff4cocalhost",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
def test_names_of_this_machine_and_internal_addresses_are_refused_by_a_proxy_too(host: str) -> None:
    policy = AddressPolicy(upstream=Upstream.of("socks5://proxy.test"))
    with pytest.raises(UnsafeURL, match="internal"):
        policy.check(f"http://{host}/live")
    assert policy.check("http://proxied.test/live") == ()
