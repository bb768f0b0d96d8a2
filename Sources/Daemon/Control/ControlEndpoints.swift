// Where the daemon listens for requests about itself, and what can go wrong with that.

import Configuration
import Wire

/// The two places; either may be absent.
package struct ControlEndpoints: Sendable, Equatable {
  /// `daemon.status`: address and port of the read-only page.
  package var status: SocketAddress?
  /// `daemon.control`: path of the Unix socket.
  package var control: String?
  /// Owner of the control socket after privileges are given up; nil to leave it with root.
  package var owner: FileOwner?

  package init(status: SocketAddress?, control: String?, owner: FileOwner?) {
    self.status = status
    self.control = control
    self.owner = owner
  }

  var statusHost: String? { status.map { "\($0.address)" } }
  var statusPort: Int? { status.map { Int($0.port) } }
  var statusText: String? { status?.description }
}

package struct FileOwner: Sendable, Equatable {
  package var user: UInt32
  package var group: UInt32

  package init(user: UInt32, group: UInt32) {
    self.user = user
    self.group = group
  }
}

/// One sentence for the person who started the daemon.
package struct ControlError: Error, CustomStringConvertible, Equatable {
  package let description: String

  init(_ description: String) { self.description = description }
}
