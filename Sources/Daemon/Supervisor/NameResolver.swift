// Keeps the addresses of target host names current and tells the workers when they change.
//
// Every name is looked up at once when it appears, again after `refresh`, and after `retry` when the
// look-up failed; getaddrinfo shows no TTL, so the floor and the ceiling are the same here. The last
// good answer stays in force while look-ups fail. Failures are logged when they begin and when they
// end, not each time. Without names there is no task, no thread and no timer.

import Kernel
import Logging
import Primitives
import Wire

actor NameResolver {
  static let refresh = Interval.seconds(30)
  static let retry = Interval.seconds(5)

  private struct Entry {
    var addresses: [IPAddress] = []
    var isFailing = false
    var watch: Task<Void, Never>
  }

  private let log: Logger
  private let executor: MainExecutor
  private let publish: @Sendable (_ name: String, _ addresses: [IPAddress]) -> Void
  private var lookup: HostLookup?
  private var entries: [String: Entry] = [:]

  /// - Parameter publish: told each answer that differs from the one before.
  init(
    log: Logger, executor: MainExecutor,
    publish: @escaping @Sendable (String, [IPAddress]) -> Void
  ) {
    self.log = log
    self.executor = executor
    self.publish = publish
  }

  /// Names that have no address now, sorted.
  var unresolved: [String] { entries.filter { $0.value.addresses.isEmpty }.keys.sorted() }

  /// Watches exactly these names from now on; those that stay keep their answer.
  func watch(_ names: Set<String>) {
    for (name, entry) in entries where !names.contains(name) {
      entry.watch.cancel()
      entries[name] = nil
    }
    for name in names where entries[name] == nil {
      guard let lookup = makeLookup() else { return }
      let watch = Task.detached(executorPreference: executor) {
        await self.keepCurrent(name, lookup)
      }
      entries[name] = Entry(watch: watch)
    }
  }

  /// Publishes every known answer again, for workers that were just given rules.
  func publishAll() {
    for (name, entry) in entries where !entry.addresses.isEmpty { publish(name, entry.addresses) }
  }

  func stop() { watch([]) }

  private func makeLookup() -> HostLookup? {
    if let lookup { return lookup }
    do throws(SystemError) {
      lookup = try HostLookup()
    } catch {
      log.error("host names cannot be looked up", metadata: ["error": "\(error)"])
    }
    return lookup
  }

  private func keepCurrent(_ name: String, _ lookup: HostLookup) async {
    while !Task.isCancelled {
      let outcome = await lookup.addresses(of: name)
      guard !Task.isCancelled else { return }
      take(outcome, for: name)
      let isFailing = entries[name]?.isFailing ?? false
      await executor.sleep(for: isFailing ? Self.retry : Self.refresh)
    }
  }

  private func take(_ outcome: HostLookup.Outcome, for name: String) {
    guard var entry = entries[name] else { return }
    switch outcome {
    case .addresses(let addresses):
      if entry.isFailing { log.notice("name resolves again", metadata: ["name": "\(name)"]) }
      entry.isFailing = false
      // The order of a round-robin name server is no change.
      if Set(entry.addresses) != Set(addresses) {
        entry.addresses = addresses
        log.info("name has addresses", metadata: ["name": "\(name)", "addresses": "\(addresses)"])
        publish(name, addresses)
      }
    case .failed(let reason):
      if !entry.isFailing {
        log.warning(
          "name does not resolve",
          metadata: [
            "name": "\(name)", "reason": "\(reason)",
            "serving": entry.addresses.isEmpty ? "nothing" : "the last answer",
          ])
      }
      entry.isFailing = true
    }
    entries[name] = entry
  }
}
