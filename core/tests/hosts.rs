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

use holders::{Holder, LARGE, PATIENCE, Pace, balance, engine, served, until};
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
    cut_off(&network, TEST, &url);
    let server = servers::Postgres::start_on(&address);
    let settings = "connections=2&connect_timeout_ms=500&statement_timeout_ms=500";
    cut_off(&network, TEST, &format!("{}?{settings}", server.tcp_url(&address)));
}

/// One of three hosts is cut off: it grants what it has leased, and no more.
fn cut_off(network: &Network, test: &str, url: &str) {
    let store: Arc<dyn Store> = quotum::store::open(url).unwrap();
    let quota = engine(Arc::clone(&store), PATIENCE);
    let of = ("ana", "large");
    let pace = Pace { pause: Duration::from_micros(500), stays: true, timeout: Duration::from_millis(500) };
    let mut holders: Vec<Holder> =
        (0..3).map(|host| Holder::start_by(network.command(host), test, url, of, pace)).collect();
    for holder in &mut holders {
        holder.line("ready");
        holder.go();
    }
    until("all are granted much", || holders.iter().all(|holder| holder.granted() > 1_500));
    assert!(ip(&["link", "set", &network.link(0), "down"]));
    let before = holders[0].granted();
    // The lost host's block is part of this: it has not expired yet.
    let leased = balance(&*store, of).leased;
    let denied = holders[0].line("denied");
    let alone = holders[0].granted() - before;
    assert!(denied.starts_with("StoreUnavailable"), "{denied}");
    // The others go on to the end: of what is left they need not take all by themselves.
    let bulk = || {
        let Balance { used, held, .. } = balance(&*store, of);
        let bulk = LARGE - used - held - 3_000;
        quota.consume(of.0, &[(of.1, bulk)]).unwrap().allowed.then_some(bulk)
    };
    let bulk = std::iter::repeat_with(bulk).take(100).flatten().next().unwrap();
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
        url.split(':').next().unwrap(),
        used - granted
    );
    assert_eq!((used, held), (LARGE, 0));
    assert!(alone > 0 && granted <= LARGE, "{alone} alone, {granted} granted");
    // And a unit of each host that was charged in the store, and could not be acknowledged.
    assert!(used - granted <= leased + 3, "{granted} granted of {used}, {leased} were leased");
}
