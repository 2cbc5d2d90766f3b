//! Three hosts on one server, in network namespaces of their own, of which one is cut off and comes back.
//!
//! Where that cannot be set up, for want of root or of `ip`, nothing is tested, and the test says so.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(missing_docs)]

mod holders;
mod servers;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holders::{Counted, EXACT, Holder, LARGE, PATIENCE, Pace, balance, engine, served, take_all_but, until};
use quotum::store::{Balance, Store};

/// Namespaces on a bridge of this machine. They end with the test.
struct Network {
    name: String,
    third: u32,
    hosts: u32,
}

impl Network {
    fn make(hosts: u32) -> Option<Self> {
        let process = std::process::id();
        let network = Self { name: format!("q{process}"), third: process % 250, hosts };
        let bridge = &network.name;
        let mut made = ip(&["link", "add", bridge, "type", "bridge"])
            && ip(&["addr", "add", &format!("{}/24", network.address(1)), "dev", bridge])
            && ip(&["link", "set", bridge, "up"]);
        for host in 0..hosts {
            let (space, outer) = (network.space(host), network.link(host));
            let address = format!("{}/24", network.address(host + 10));
            made = made
                && ip(&["netns", "add", &space])
                && ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &space])
                && ip(&["link", "set", &outer, "master", bridge, "up"])
                && ip(&["-n", &space, "addr", "add", &address, "dev", "eth0"])
                && ip(&["-n", &space, "link", "set", "eth0", "up"])
                && ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        made.then_some(network)
    }

    fn address(&self, last: u32) -> String {
        format!("10.213.{}.{last}", self.third)
    }

    fn space(&self, host: u32) -> String {
        format!("{}-{host}", self.name)
    }

    fn link(&self, host: u32) -> String {
        format!("{}v{host}", self.name)
    }

    /// A command that runs this test's binary on a host.
    fn command(&self, host: u32) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(host)]).arg(std::env::current_exe().unwrap());
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            ip(&["netns", "del", &self.space(host)]);
        }
        ip(&["link", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> bool {
    let done = Command::new("ip").args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

#[test]
fn a_host_is_cut_off_and_comes_back() {
    const TEST: &str = "a_host_is_cut_off_and_comes_back";
    if served() {
        return;
    }
    let Some(network) = Network::make(3) else {
        eprintln!("not run here: network namespaces need root and `ip`");
        return;
    };
    let (port, address) = (servers::free_port().to_string(), network.address(1));
    let _server = servers::Redis::start_with(&["--port", &port, "--bind", &address, "--protected-mode", "no"]);
    let url = format!("redis://{address}:{port}?connections=1&connect_timeout_ms=500&response_timeout_ms=500");
    all_cases(&network, TEST, &url);
    let server = servers::Postgres::start_on(&address);
    let settings = "connections=1&connect_timeout_ms=500&statement_timeout_ms=500";
    all_cases(&network, TEST, &format!("{}?{settings}", server.tcp_url(&address)));
}

fn all_cases(network: &Network, test: &str, url: &str) {
    leased(network, test, url);
    exact(network, test, url);
    exact_and_cut_off(network, test, url);
}

/// One process on each host.
fn holders(network: &Network, test: &str, url: &str, of: Counted<'_>, pace: Pace) -> Vec<Holder> {
    let start = |host| Holder::start_by(network.command(host), test, url, of, pace);
    let mut holders: Vec<Holder> = (0..network.hosts).map(start).collect();
    for holder in &mut holders {
        holder.line("ready");
        holder.go();
    }
    holders
}

/// Without leases, where every answer arrives: what was granted is what is used, to the unit.
fn exact(network: &Network, test: &str, url: &str) {
    let of = ("bob", "exact");
    let holders = holders(network, test, url, of, Pace::HARD);
    let shares: Vec<u64> = holders.into_iter().map(close_when_exhausted).collect();
    let Balance { used, held, .. } = balance(&*quotum::store::open(url).unwrap(), of);
    println!("{}: exact, three hosts were granted {shares:?}", name_of(url));
    assert_eq!((shares.iter().sum::<u64>(), used, held), (EXACT, EXACT, 0), "{shares:?}");
}

/// Without leases, one host is cut off: it grants nothing until it is back, and then goes on.
///
/// A lost answer costs the subject its unit: the store has charged what the host could not acknowledge. That is at
/// most one for the one connection that the host had: the request that was under way on it, or the first one of the
/// time of silence, which the host's kernel still delivers when the network is back.
fn exact_and_cut_off(network: &Network, test: &str, url: &str) {
    let store: Arc<dyn Store> = quotum::store::open(url).unwrap();
    let quota = engine(Arc::clone(&store), PATIENCE);
    let of = ("eve", "exact");
    // Slow enough that there is something left when the host is back. The store gives up before the engine does.
    let pace = Pace { pause: Duration::from_millis(10), stays: true, timeout: Duration::from_secs(2) };
    let holders = holders(network, test, url, of, pace);
    until("all are granted something", || holders.iter().all(|holder| holder.granted() > 50));
    assert!(ip(&["link", "set", &network.link(0), "down"]));
    let denied = holders[0].line("denied");
    assert!(denied.starts_with("StoreUnavailable"), "{denied}");
    let before = holders.iter().map(Holder::granted).collect::<Vec<u64>>();
    until("the others go on", || (1..holders.len()).all(|host| holders[host].granted() > before[host] + 50));
    assert_eq!(holders[0].granted(), before[0], "what it granted while it was cut off");
    assert!(ip(&["link", "set", &network.link(0), "up"]));
    until("the lost host works on", || holders[0].granted() > before[0] + 50);
    let bulk = take_all_but(300, of, EXACT, &*store, &quota);
    let granted: u64 = bulk + holders.into_iter().map(close_when_exhausted).sum::<u64>();
    let Balance { used, held, .. } = balance(&*store, of);
    println!("{}: exact and cut off, {granted} were granted of {used} used", name_of(url));
    assert_eq!((used, held), (EXACT, 0));
    assert!(granted <= used && used - granted <= 1, "{granted} granted of {used}");
}

fn close_when_exhausted(holder: Holder) -> u64 {
    holder.line("exhausted");
    holder.close()
}

fn name_of(url: &str) -> &str {
    url.split(':').next().unwrap()
}

/// One of three hosts is cut off: it grants what it has leased, and no more.
fn leased(network: &Network, test: &str, url: &str) {
    let store: Arc<dyn Store> = quotum::store::open(url).unwrap();
    let quota = engine(Arc::clone(&store), PATIENCE);
    let of = ("ana", "large");
    let pace = Pace { pause: Duration::from_micros(500), stays: true, timeout: Duration::from_millis(500) };
    let holders = holders(network, test, url, of, pace);
    until("all are granted much", || holders.iter().all(|holder| holder.granted() > 1_500));
    assert!(ip(&["link", "set", &network.link(0), "down"]));
    let before = holders[0].granted();
    // The lost host's block is part of this: it has not expired yet.
    let leased = balance(&*store, of).leased;
    let denied = holders[0].line("denied");
    let alone = holders[0].granted() - before;
    assert!(denied.starts_with("StoreUnavailable"), "{denied}");
    let bulk = take_all_but(3_000, of, LARGE, &*store, &quota);
    until("the others end at the limit", || {
        let Balance { used, held, .. } = balance(&*store, of);
        assert!(used + held <= LARGE, "{used} used and {held} held");
        (used, held) == (LARGE, 0)
    });
    assert!(ip(&["link", "set", &network.link(0), "up"]));
    // It hears that nothing is left.
    holders[0].line("exhausted");
    let granted: u64 = bulk + holders.into_iter().map(Holder::close).sum::<u64>();
    let Balance { used, held, .. } = balance(&*store, of);
    println!(
        "{}: the lost host was granted {alone} units while it was cut off; in the end {granted} were granted and {} \
         expired unsettled, of {used} used; {leased} were leased when it was cut off",
        name_of(url),
        used - granted
    );
    assert_eq!((used, held), (LARGE, 0));
    assert!(alone > 0 && granted <= LARGE, "{alone} alone, {granted} granted");
    // And a unit of each host that was charged in the store, and could not be acknowledged.
    assert!(used - granted <= leased + 3, "{granted} granted of {used}, {leased} were leased");
}
