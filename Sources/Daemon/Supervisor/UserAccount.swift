// The user that the daemon becomes (`daemon.user`), looked up before anything is opened, so that a
// misspelt name is found early and the control socket can be given to its later owner.

import Control
import Glibc

struct UserAccount: Sendable, Equatable {
  var name: String
  var owner: FileOwner

  /// - Returns: nil when there is no such user.
  static func find(_ name: String) -> UserAccount? {
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    var text = [CChar](repeating: 0, count: 16 * 1024)
    let code = getpwnam_r(name, &entry, &text, text.count, &found)
    guard code == 0, found != nil else { return nil }
    return UserAccount(name: name, owner: FileOwner(user: entry.pw_uid, group: entry.pw_gid))
  }
}
