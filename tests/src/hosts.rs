//! Hosts with a network of their own: Linux network namespaces, joined by links that are as slow
//! and as far as a test wants. No address in them is reached from outside.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{run, served::Served};

/// Host that is a network namespace. Processes are started in it with [`Host::at`].
pub struct Host {
    /// Process that keeps the namespace; ends when this is dropped.
    keeper: Served,
}

impl Host {
    /// Creates the first host. Without root's rights, it is root of a user namespace.
    ///
    /// # Errors
    /// Where namespaces are not permitted, with what to do.
    pub fn first() -> Result<Self> {
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        Self::keep(unshare).context(
            "this test needs network namespaces: run it as root, or permit them to users \
             (sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0); a container needs CAP_SYS_ADMIN, \
             CAP_NET_ADMIN and /dev/net/tun",
        )
    }

    /// Creates another host, with the rights that this one has.
    pub fn another(&self) -> Result<Self> {
        Self::keep(self.at(&Command::new("unshare")))
    }

    fn keep(mut unshare: Command) -> Result<Self> {
        unshare.args(["--net", "--", "sh", "-c", "echo ready; exec cat >/dev/null"]);
        let host = Self {
            keeper: Served::run(unshare, "")?,
        };
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// Process id of the keeper, which names the namespace.
    fn id(&self) -> String {
        self.keeper.id().to_string()
    }

    /// Returns the command, run on this host.
    pub fn at(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.args(["--target", &self.id(), "--net"]);
        if !rustix::process::geteuid().is_root() {
            there.args(["--user", "--preserve-credentials"]);
        }
        there.arg("--").arg(command.get_program());
        there.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there
    }

    /// Runs `ip` with these arguments on this host.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        self.tool("ip", arguments)
    }

    fn tool(&self, tool: &str, arguments: &str) -> Result<()> {
        let mut command = Command::new(tool);
        command.args(arguments.split_whitespace());
        let ended = run(self.at(&command))
            .with_context(|| format!("{tool} is installed by infra/setup.sh test"))?;
        ensure!(
            ended.status.success(),
            "{tool} {arguments}: {}",
            ended.stderr
        );
        Ok(())
    }
}

/// Link between two hosts; ends when this is dropped.
pub struct Link {
    /// Name of the device at each end.
    device: String,
    _delayed: Option<Served>,
}

impl Link {
    /// Joins `from` and `to` under the addresses `10.NET.1` and `10.NET.2`, with `mbit` per second
    /// in each direction and a delay of `delay_ms` each way.
    pub fn join(from: &Host, to: &Host, net: &str, mbit: u32, delay_ms: u32) -> Result<Self> {
        let device = format!("link-{}", net.replace('.', "-"));
        let (near, far) = (from.id(), to.id());
        let delayed = if delay_ms == 0 {
            from.ip(&format!(
                "link add {device} type veth peer name {device} netns {far}"
            ))?;
            None
        } else {
            let arguments = [&*near, &device, &far, &device, &delay_ms.to_string()];
            let script = Served::script("delayed_link.py", arguments);
            // Entering another namespace needs the rights of the hosts, and no network.
            Some(Served::run(from.at(&script), "")?)
        };
        for (host, own) in [(from, 1), (to, 2)] {
            host.ip(&format!("address add 10.{net}.{own}/30 dev {device}"))?;
            host.ip(&format!("link set {device} up"))?;
            // Bursts of 5 ms at least, or the rate is not reached; 400 ms of queue.
            let burst = (u64::from(mbit) * 1_000_000 / 8 / 200).max(16_384);
            let shape = format!("rate {mbit}mbit burst {burst} latency 400ms");
            host.tool("tc", &format!("qdisc add dev {device} root tbf {shape}"))?;
        }
        Ok(Self {
            device,
            _delayed: delayed,
        })
    }

    /// Cuts the link at one of its hosts: packets are lost in both directions.
    pub fn cut(&self, host: &Host) -> Result<()> {
        host.ip(&format!("link set {} down", self.device))
    }

    /// Mends the link that was cut at this host.
    pub fn mend(&self, host: &Host) -> Result<()> {
        host.ip(&format!("link set {} up", self.device))
    }
}
