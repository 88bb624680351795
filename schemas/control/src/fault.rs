/// Party that can do something about an error. The program's exit code is 2 for a user's fault and 1
/// for any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// User, by a setting, a name, a location or a command.
    User,
    /// Environment: a broker, the network, a disk, or a program started by this one.
    External,
    /// Bug in this program.
    Internal,
}
