//! Which addresses may be called: public https ones, checked in the URL and again when the name has become an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// The address guard. It stands between a URL that somebody else supplied (a practice's Endpoint, a key set, a
/// subscription) and the connection.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Lets plain http, loopback and private addresses through.
    pub allow_private_addresses: bool,
}

/// Why a URL is not called. The texts do not repeat the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressRefused {
    #[error("The address is not a URL with a host: write it as https://host/path.")]
    NotAUrl,
    #[error("Only https addresses are called: use https, or set delivery.allow_private_addresses for a test system.")]
    NotHttps,
    #[error("The address carries a user name or password: remove it; systems are identified by token.")]
    Userinfo,
    #[error("The port is one of another service: use 443 or a port from 1024 up.")]
    Port,
    #[error(
        "The address is in a private, local or reserved network: use a public address, or set delivery.allow_private_addresses for a test system."
    )]
    Private,
}

impl Guard {
    /// The URL, if it may be called as far as its text says. A host name is checked again after DNS.
    pub fn check(&self, url: &str) -> Result<Url, AddressRefused> {
        let url = Url::parse(url.trim()).map_err(|_| AddressRefused::NotAUrl)?;
        self.check_url(&url)?;
        Ok(url)
    }

    pub(super) fn check_url(&self, url: &Url) -> Result<(), AddressRefused> {
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or(AddressRefused::NotAUrl)?;
        let plain = url.scheme() == "http" && self.allow_private_addresses;
        if url.scheme() != "https" && !plain {
            return Err(AddressRefused::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressRefused::Userinfo);
        }
        if self.allow_private_addresses {
            return Ok(());
        }
        // Other services' well-known ports are below 1024; a practice's own https may be on any above.
        if url.port().is_some_and(|port| port < 1024 && port != 443) {
            return Err(AddressRefused::Port);
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let public = match literal {
            Ok(address) => is_public(address),
            Err(_) => is_public_name(host),
        };
        if public { Ok(()) } else { Err(AddressRefused::Private) }
    }
}

/// Whether an address is one of the public Internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// IANA special-purpose address registry (RFC 6890 and updates), and the ranges that Svix refuses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let refused = match a {
        0 | 10 | 127 => true,
        100 => (64..128).contains(&b), // carrier-grade NAT
        169 => b == 254,               // link-local, and cloud metadata
        172 => (16..32).contains(&b),  //
        192 => {
            b == 168
                || (b == 0 && (c == 0 || c == 2)) // protocol assignments, documentation
                || (b == 88 && c == 99) // 6to4 relay anycast
        }
        198 => b == 18 || b == 19 || (b == 51 && c == 100), // benchmarks, documentation
        203 => b == 0 && c == 113,                          // documentation
        _ => a >= 224,                                      // multicast, reserved, broadcast
    };
    !refused
}

/// Only global unicast (2000::/3), less what is set aside in it. All that wraps an IPv4 address lies outside it or is
/// named here: IPv4-mapped and -compatible, NAT64 (64:ff9b::/32), 6to4 (2002::/16), Teredo (2001::/32).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let global_unicast = a & 0xe000 == 0x2000;
    let set_aside = match a {
        0x2001 => b < 0x0200 || b == 0x0db8, // 2001::/23: Teredo, benchmarks, ORCHID; documentation
        0x2002 => true,                      // 6to4
        0x3fff => b < 0x1000,                // documentation
        _ => false,
    };
    global_unicast && !set_aside
}

/// Names that mean this machine or this network, whatever the resolver would say.
fn is_public_name(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let local = ["localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain"];
    name.contains('.') && !local.iter().any(|l| name == *l || name.ends_with(&format!(".{l}")))
}

/// Resolves a name, and gives no address at all when one of them is not public: a name with a public and a private
/// address is how a check is got round (DNS rebinding). reqwest connects to what this returns and to nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuardedResolver(pub(super) Guard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            checked(guard, addresses).map_err(Into::into)
        })
    }
}

fn checked(guard: Guard, addresses: Vec<SocketAddr>) -> Result<Addrs, AddressRefused> {
    if guard.allow_private_addresses || addresses.iter().all(|a| is_public(a.ip())) {
        Ok(Box::new(addresses.into_iter()))
    } else {
        Err(AddressRefused::Private)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const STRICT: Guard = Guard { allow_private_addresses: false };
    const OPEN: Guard = Guard { allow_private_addresses: true };

    /// URLs that must never lead to a connection: not https; private and reserved addresses in every spelling; names of
    /// this machine or network; somebody else's credentials or port.
    const REFUSED: &str = r"
        http://gp.example.org/fhir ftp://gp.example.org/ file:///etc/passwd gopher://gp.example.org/
        ws://gp.example.org/ data:text/plain,x javascript:alert(1) //gp.example.org/fhir gp.example.org
        https:// https:///fhir jar:https://gp.example.org!/ unix:/run/docker.sock HTTP://GP.EXAMPLE.ORG
        https://127.0.0.1/ https://127.1/ https://127.0.0.1:8443/ https://127.255.255.254/ https://0/
        https://0.0.0.0/ https://0x7f000001/ https://0x7f.0.0.1/ https://017700000001/ https://0177.0.0.1/
        https://2130706433/ https://127.0.0.1./ https://127%2e0.0.1/ https://１２７.0.0.1/ https://127。0。0。1/
        https://10.0.0.1/ https://10.255.255.255/ https://100.64.0.1/ https://100.127.255.255/
        https://169.254.169.254/latest/meta-data/ https://0xa9fea9fe/ https://2852039166/ https://172.16.0.1/
        https://172.31.255.255/ https://192.168.0.1/ https://192.168.1/ https://192.0.0.1/ https://192.0.2.1/
        https://192.88.99.1/ https://198.18.0.1/ https://198.19.255.255/ https://198.51.100.7/
        https://203.0.113.9/ https://224.0.0.1/ https://239.255.255.255/ https://240.0.0.1/
        https://255.255.255.255/ https://0.1.2.3/
        https://[::]/ https://[::1]/ https://[0:0:0:0:0:0:0:1]/ https://[::ffff:127.0.0.1]/
        https://[::ffff:7f00:1]/ https://[::ffff:8.8.8.8]/ https://[::127.0.0.1]/ https://[fc00::1]/
        https://[fd12:3456::1]/ https://[fe80::1]/ https://[febf::1]/ https://[fec0::1]/ https://[ff02::1]/
        https://[64:ff9b::7f00:1]/ https://[64:ff9b:1::1]/ https://[2002:7f00:1::]/ https://[2002:a00:1::1]/
        https://[2001::1]/ https://[2001:2::1]/ https://[2001:10::1]/ https://[2001:20::1]/
        https://[2001:db8::1]/ https://[3fff::1]/ https://[5f00::1]/ https://[100::1]/ https://[4000::1]/
        https://localhost/ https://LOCALHOST/ https://localhost./ https://a.localhost/ https://printer.local/
        https://metadata.google.internal/ https://db/ https://gp.lan/ https://intranet/ https://x.home.arpa/
        https://user@gp.example.org/ https://user:pass@gp.example.org/ https://:pass@gp.example.org/
        https://gp.example.org@127.0.0.1/ https://127.0.0.1#@gp.example.org/ https://127.0.0.1\@gp.example.org/
        https://gp.example.org:22/ https://gp.example.org:25/ https://gp.example.org:80/ https://gp.example.org:636/
        https://gp.example.org:0/ https://gp.example.org:99999/
    ";

    #[test]
    fn no_private_reserved_or_disguised_address_is_called() {
        let refused: Vec<&str> = REFUSED.split_whitespace().chain(["", " ", "https://"]).collect();
        assert!(refused.len() >= 100, "{}", refused.len());
        for url in refused {
            assert!(STRICT.check(url).is_err(), "{url}");
        }
    }

    #[test]
    fn public_https_addresses_are_called() {
        let public = "
            https://gp.example.org/fhir https://gp.example.org:443/ https://gp.example.org:8443/fhir/R4 https://8.8.8.8/
            https://100.63.255.255/ https://100.128.0.1/ https://172.15.0.1/ https://172.32.0.1/
            https://192.0.1.1/ https://198.20.0.1/ https://223.255.255.254/ https://[2a00:1450::1]/
            https://[2001:4860::1]/ https://[3ffe::1]/ https://local.example.org/
        ";
        for url in public.split_whitespace() {
            assert!(STRICT.check(url).is_ok(), "{url} {:?}", STRICT.check(url));
        }
    }

    #[test]
    fn the_switch_lets_test_systems_through_but_no_credentials() {
        for url in ["http://127.0.0.1:8081/fhir", "https://localhost/", "http://[::1]:9/", "http://practice:22/"] {
            assert!(OPEN.check(url).is_ok(), "{url}");
        }
        assert_eq!(OPEN.check("http://user:pass@127.0.0.1/").unwrap_err(), AddressRefused::Userinfo);
        assert_eq!(OPEN.check("file:///etc/passwd").unwrap_err(), AddressRefused::NotAUrl);
        assert_eq!(OPEN.check("ftp://127.0.0.1/").unwrap_err(), AddressRefused::NotHttps);
    }

    #[test]
    fn a_name_that_resolves_to_one_private_address_gives_none() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let mixed = vec![at("8.8.8.8"), at("127.0.0.1")];
        assert_eq!(checked(STRICT, mixed.clone()).err(), Some(AddressRefused::Private));
        assert_eq!(checked(OPEN, mixed).unwrap().count(), 2);
        assert_eq!(checked(STRICT, vec![at("8.8.8.8"), at("2a00:1450::1")]).unwrap().count(), 2);
    }
}
