// What the device loses between two changes, put back.
//
// Others take things away: `ip addr flush`, `ip route del`, a network manager; and the kernel itself, which
// drops IPv6 addresses and most routes without a word when a link is set down. What is missing comes
// back as soon as it can. What somebody set on purpose stays until a reload: a link that is down is not
// set up, its MTU and its queue are left alone. Each condition is logged once, not at every look.

import Logging
import Netlink

/// What the log has been told and must not be told again.
struct ToldCondition {
  var isDown = false
  var isGone = false
  /// Why it cannot be repaired.
  var failure: NetlinkError?
}

extension DeviceKeeper {
  /// Lists what the device has and adds what it lacks.
  func look() -> DeviceCondition {
    // None: it is being made, or taken down.
    guard let plan else { return .intact }
    do throws(NetlinkError) {
      guard let link = try link() else { return tellGone() }
      guard link.isUp else { return tellDown(link) }
      if told.isDown { log.notice("the device is up again", metadata: ["device": "\(link.name)"]) }
      told.isDown = false
      let addition = try add(plan, stopsAtFailure: false)
      if !addition.content.isEmpty { tellBack(addition.content) }
      if let failure = addition.failure { throw failure }
      told.failure = nil
      return addition.content.isEmpty ? .intact : .repaired
    } catch {
      // Down or gone between two steps: that is announced, and found by the next look.
      if told.failure != error {
        log.error(
          "the device lacks addresses or routes that cannot be put back now",
          metadata: ["error": "\(error)"])
      }
      told.failure = error
      return .failing
    }
  }

  private func tellGone() -> DeviceCondition {
    if !told.isGone {
      log.warning("the device has left its network namespace and is not looked after any more")
    }
    told.isGone = true
    return .gone
  }

  private func tellDown(_ link: Link) -> DeviceCondition {
    if !told.isDown {
      log.warning(
        "the device is down: nothing is forwarded until it is up again (`ip link set \(link.name) up`, or a reload)",
        metadata: ["device": "\(link.name)"])
    }
    told.isDown = true
    return .down
  }

  /// For a change of the plan: what the former one had as well was lost.
  func tellLost(_ missing: DeviceContent) {
    guard let plan else { return }
    let lost = DeviceContent(
      addresses: missing.addresses.filter { plan.addresses.contains($0) },
      prefixes: missing.prefixes.filter { plan.prefixes.contains($0) })
    if !lost.isEmpty { tellBack(lost) }
  }

  private func tellBack(_ missing: DeviceContent) {
    var fields: Logger.Metadata = [:]
    if !missing.addresses.isEmpty { fields["addresses"] = "\(excerpt(of: missing.addresses))" }
    if !missing.prefixes.isEmpty { fields["routes"] = "\(excerpt(of: missing.prefixes))" }
    log.warning("the device had lost addresses or routes, they are back", metadata: fields)
  }

  /// For a change of the plan: what others had made of the link.
  func tellLink(_ before: Link) {
    guard let plan else { return }
    var fields: Logger.Metadata = [:]
    if !before.isUp { fields["state"] = "down" }
    if before.mtu != plan.mtu { fields["mtu"] = "\(before.mtu)" }
    if before.queueLength != Self.queueLength { fields["queue"] = "\(before.queueLength)" }
    guard !fields.isEmpty else { return }
    log.warning("the device's link was not as it should be and is set again", metadata: fields)
  }

  /// The first few, and how many more there are.
  func excerpt<Element: CustomStringConvertible>(of elements: [Element]) -> String {
    let shown = elements.prefix(8).map(\.description).joined(separator: ",")
    return elements.count > 8 ? "\(shown) and \(elements.count - 8) more" : shown
  }
}
