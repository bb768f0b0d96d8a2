// Making the TUN device.
//
// A device that is made here vanishes with its last queue, whatever ends the process; only one that is
// kept outlives it. Hence a name is made exclusively, and when it exists already there are three
// cases: a TUN with nobody attached was left by a run that kept it, and is taken over; a TUN with somebody
// attached and any other link are not ours, and refused. A leftover that is not to be kept, or has the
// other number of queues (one, several), is removed first, so that nothing of its configuration
// remains.
// The virtio-net header is always on, also without offload: one format, one code path.
// Addresses, routes, MTU and state are rtnetlink's business.

import CLinux
import Kernel

/// An open device, until its queues are taken. It is not needed afterwards.
package struct TunDevice: ~Copyable, Sendable {
  /// Queues that the kernel gives a device.
  package static let queuesMax = 256

  /// The name given.
  package let name: String
  /// The link's number in its namespace.
  package let interfaceIndex: Int
  /// What the kernel granted.
  package let features: OffloadFeatures
  /// Whether a device that a former run kept was taken over, with whatever addresses it has.
  package let wasTakenOver: Bool
  private var queues: [CInt?]

  deinit {
    for case .some(let number) in queues { _ = Descriptor(adopting: number) }
  }

  package var queueCount: Int { queues.count }

  /// Makes the device, or takes over one that was kept.
  ///
  /// - Parameters:
  ///   - name: 1 to 15 octets.
  ///   - namespace: the path of the namespace to make it in; nil for the caller's.
  ///   - queues: 1...queuesMax; several make a multi-queue device.
  ///   - offload: ask for everything the kernel knows; false asks for nothing.
  ///   - keep: let the device outlive its queues.
  package static func open(
    name: String, namespace: String?, queues: Int, offload: Bool, keep: Bool
  ) throws(TunDeviceError) -> TunDevice {
    let refused: Set<UInt8> = [0x20, 0x2f, 0x3a, 0x25]
    guard 1...15 ~= name.utf8.count, name != ".", name != "..",
      name.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f && !refused.contains($0) })
    else { throw .badName(name) }
    precondition(queues >= 1, "queues")
    guard queues <= queuesMax else { throw .tooManyQueues(queues) }
    let opening = TunOpening(name: name, queues: queues, offload: offload, keep: keep)
    let outcome: Result<TunDevice, TunDeviceError>
    do throws(NamespaceError) {
      outcome = try NetworkNamespace.run(in: namespace) { opening.run() }
    } catch {
      throw .namespace(error)
    }
    return try outcome.get()
  }

  init(
    name: String, interfaceIndex: Int, features: OffloadFeatures, wasTakenOver: Bool, first: CInt
  ) {
    self.name = name
    self.interfaceIndex = interfaceIndex
    self.features = features
    self.wasTakenOver = wasTakenOver
    queues = [first]
  }

  mutating func add(_ number: CInt) { queues.append(number) }

  func persist(_ keep: Bool) throws(TunDeviceError) {
    guard case .some(.some(let number)) = queues.first else { return }
    do throws(SystemError) {
      _ = try SystemError.check(clinux_tun_set_persistent(number, keep), .tunPersist)
    } catch {
      throw .system(name: name, error)
    }
  }

  /// Has the kernel choose each packet's queue by a program: its result, modulo the queues.
  ///
  /// - Throws: where the kernel has no such choice, or this process may not load programs (CAP_BPF);
  ///   the device then has the kernel's own way: a flow's packets come to the queue that its latest
  ///   answer was written to, and its first one to any.
  package func steer(by program: borrowing SocketFilter) throws(SystemError) {
    guard case .some(.some(let number)) = queues.first else { return }
    _ = try SystemError.check(
      clinux_tun_set_steering(number, program.number), .tunSteering)
  }

  /// Leaves the choice to the kernel again: a device that was kept still has the program of the run
  /// that kept it.
  package func steerByKernel() {
    guard case .some(.some(let number)) = queues.first else { return }
    // Fails where the kernel has no programs here, and then there is none.
    _ = clinux_tun_set_steering(number, -1)
  }

  /// Hands a queue over, once.
  package mutating func takeQueue(_ index: Int) -> TunQueue {
    guard let number = queues[index] else { preconditionFailure("queue \(index) was taken") }
    queues[index] = nil
    return TunQueue(descriptor: Descriptor(adopting: number), features: features)
  }
}
