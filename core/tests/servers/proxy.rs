//! A proxy between a store and its server, which cuts connections where it is told to. It knows no protocol: what
//! the client sends in one piece is a request, and what the server then sends is the reply.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where the server is.
#[derive(Debug, Clone)]
pub enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What happens to a connection at its next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is cut, and the server never sees the request.
    BeforeRequest,
    /// The server gets the request, and the connection is cut at once.
    AfterRequest,
    /// The connection is cut after so many bytes of the reply, which the server has sent.
    InReply(usize),
    /// It is cut, and no other is let in for so long.
    AndRefuse(Duration),
    /// The request waits for so long: nothing is cut.
    Delay(Duration),
}

/// Listens until the process ends.
pub struct Proxy {
    address: SocketAddr,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    /// How many requests pass before something happens, and what: one after the other.
    next: Mutex<VecDeque<(u64, Cut)>>,
    refused_until: Mutex<Option<Instant>>,
    done: AtomicU64,
}

impl Proxy {
    pub fn start(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Arc::new(Orders::default());
        let shared = Arc::clone(&orders);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.refuses() {
                    continue;
                }
                if let Ok(server) = Socket::connect(&upstream) {
                    link(Socket::Tcp(client), server, &shared);
                }
            }
        });
        Self { address, orders }
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has something done at the next request, of whichever connection.
    pub fn at_next_request(&self, cut: Cut) {
        self.at_next_requests([(0, cut)]);
    }

    /// Has things done one after the other, each at the request after so many others, of whichever connection.
    pub fn at_next_requests(&self, cuts: impl Into<VecDeque<(u64, Cut)>>) {
        *self.orders.next.lock().unwrap() = cuts.into();
    }

    /// Does something at the request after so many others, of whichever connection, and waits until it is done.
    pub fn act(&self, after: u64, cut: Cut) {
        let before = self.orders.done.load(Ordering::Acquire);
        let began = Instant::now();
        let order = || self.at_next_requests([(after, cut)]);
        order();
        while self.orders.done.load(Ordering::Acquire) == before {
            std::thread::sleep(Duration::from_micros(200));
            assert!(began.elapsed() < Duration::from_secs(30), "nobody asks anything");
            // A connection may have ended by itself before it could be cut.
            if began.elapsed() > Duration::from_secs(1) && self.orders.next.lock().unwrap().is_empty() {
                order();
            }
        }
    }
}

impl Orders {
    fn refuses(&self) -> bool {
        self.refused_until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    /// What is to happen at a request that has come.
    fn take(&self) -> Option<Cut> {
        let mut next = self.next.lock().unwrap();
        match next.front_mut()? {
            (0, _) => next.pop_front().map(|(_, cut)| cut),
            (left, _) => {
                *left -= 1;
                None
            }
        }
    }

    fn done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// Passes everything on between two sockets, on two threads, until one ends.
fn link(client: Socket, server: Socket, orders: &Arc<Orders>) {
    let Ok((requests_to, replies_to)) = server.clone().and_then(|server| Ok((server, client.clone()?))) else { return };
    // How many bytes of a reply are still passed on before the cut.
    let left: Arc<Mutex<Option<usize>>> = Arc::default();
    let (noted, shared) = (Arc::clone(&left), Arc::clone(orders));
    std::thread::spawn(move || {
        let _ended = pass_requests(&client, &requests_to, &noted, &shared);
        client.shut();
        requests_to.shut();
    });
    let shared = Arc::clone(orders);
    std::thread::spawn(move || {
        let _ended = pass_replies(&server, &replies_to, &left, &shared);
        server.shut();
        replies_to.shut();
    });
}

fn pass_requests(client: &Socket, server: &Socket, left: &Mutex<Option<usize>>, orders: &Orders) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let request = &buffer[..length];
        let cut = orders.take();
        match cut {
            None => server.write(request)?,
            Some(Cut::InReply(bytes)) => {
                *left.lock().unwrap() = Some(bytes);
                server.write(request)?;
            }
            Some(Cut::Delay(delay)) => {
                orders.done();
                std::thread::sleep(delay);
                server.write(request)?;
            }
            Some(Cut::AfterRequest) => server.write(request)?,
            Some(Cut::AndRefuse(time)) => *orders.refused_until.lock().unwrap() = Some(Instant::now() + time),
            Some(Cut::BeforeRequest) => {}
        }
        if let Some(Cut::BeforeRequest | Cut::AfterRequest | Cut::AndRefuse(_)) = cut {
            client.shut();
            orders.done();
            return Ok(());
        }
    }
}

fn pass_replies(server: &Socket, client: &Socket, left: &Mutex<Option<usize>>, orders: &Orders) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = server.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut left = left.lock().unwrap();
        match left.as_mut() {
            Some(left) if *left < length => {
                client.write(&buffer[..*left])?;
                client.shut();
                orders.done();
                return Ok(());
            }
            Some(left) => *left -= length,
            None => {}
        }
        client.write(&buffer[..length])?;
    }
}

/// A connection of either kind.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(upstream: &Upstream) -> io::Result<Self> {
        match upstream {
            Upstream::Tcp(address) => TcpStream::connect(address).map(Self::Tcp),
            Upstream::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    fn clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.try_clone().map(Self::Tcp)
            }
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => (&*stream).write_all(bytes),
            Self::Unix(stream) => (&*stream).write_all(bytes),
        }
    }

    fn shut(&self) {
        // One that has ended already is shut enough.
        let _ended = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}
