// The HTTP server of the daemon: one event loop, two listeners, bounded in everything.
//
// The control socket and the status address serve the same read-only routes. Connections, header
// octets, header fields and every wait for a peer are bounded; beyond the bound of connections a new
// one is closed unanswered. With nobody connected there is no timer and thus no wake-up. The server
// owns its event loop's thread; the loop never blocks and holds no lock that a worker could want.

import Kernel
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Primitives
import Synchronization

package final class ControlServer: Sendable {
  /// Connections at one time, over both listeners.
  static let connectionCountMax = 64
  private static let headerOctetsMax = 16 * 1024
  private static let headerFieldOctetsMax = 8 * 1024
  private static let headerFieldCountMax = 64

  private let group: MultiThreadedEventLoopGroup
  private let listeners: [any Channel]
  private let file: Mutex<ControlSocketFile?>

  private init(
    group: MultiThreadedEventLoopGroup, listeners: [any Channel],
    file: consuming sending ControlSocketFile?
  ) {
    self.group = group
    self.listeners = listeners
    self.file = Mutex(file)
  }

  /// Listens; what was opened is closed again when a part fails.
  ///
  /// - Throws: one sentence that says which address or path cannot be had, and why.
  package static func start(
    _ endpoints: ControlEndpoints, source: @escaping StatusSource, log: Logger
  ) async throws(ControlError) -> ControlServer {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    var listeners: [any Channel] = []
    var file: ControlSocketFile?
    do throws(ControlError) {
      let bootstrap = Self.bootstrap(group: group, source: source)
      if let host = endpoints.statusHost, let port = endpoints.statusPort {
        listeners.append(try await listen(bootstrap, host: host, port: port, endpoints))
        log.info("status page is up", metadata: ["address": "\(endpoints.statusText ?? host)"])
      }
      if let path = endpoints.control {
        var candidate = ControlSocketFile(path: path)
        candidate.makeDirectory(owner: endpoints.owner)
        do throws(ControlError) {
          listeners.append(try await listen(bootstrap, group, candidate, owner: endpoints.owner))
        } catch {
          candidate.abandon()
          throw error
        }
        if endpoints.owner != nil { keepRemovable(&candidate, log) }
        file = consume candidate
        log.info("control socket is up", metadata: ["path": "\(path)"])
      }
    } catch {
      file.take()?.remove()
      await close(listeners, group)
      throw error
    }
    return ControlServer(group: group, listeners: listeners, file: file)
  }

  private static func keepRemovable(_ file: inout ControlSocketFile, _ log: Logger) {
    do throws(SystemError) {
      try file.keepRemovable()
    } catch {
      log.warning(
        "the control socket's file may stay behind at the end", metadata: ["error": "\(error)"])
    }
  }

  /// Closes listeners and connections, and removes the control socket's file.
  package func stop() async {
    file.withLock { $0.take() }?.remove()
    await Self.close(listeners, group)
  }

  private static func close(
    _ listeners: [any Channel], _ group: MultiThreadedEventLoopGroup
  ) async {
    for listener in listeners { try? await listener.close() }
    try? await group.shutdownGracefully()
  }

  private static func listen(
    _ bootstrap: ServerBootstrap, host: String, port: Int, _ endpoints: ControlEndpoints
  ) async throws(ControlError) -> any Channel {
    do {
      return try await bootstrap.serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .bind(to: SocketAddress(ipAddress: host, port: port)).get()
    } catch {
      throw ControlError(
        "cannot listen on daemon.status \(endpoints.statusText ?? host): \(reason(of: error))")
    }
  }

  private static func listen(
    _ bootstrap: ServerBootstrap, _ group: MultiThreadedEventLoopGroup,
    _ file: borrowing ControlSocketFile,
    owner: FileOwner?
  ) async throws(ControlError) -> any Channel {
    let isStale = try await file.isStale(group: group)
    do {
      let channel = try await bootstrap.bind(
        unixDomainSocketPath: file.path, cleanupExistingSocketFile: isStale
      ).get()
      file.makePrivate(owner: owner)
      return channel
    } catch {
      throw ControlError("cannot listen on daemon.control \(file.path): \(reason(of: error))")
    }
  }

  private static func reason(of error: any Error) -> String {
    if let error = error as? IOError { return systemMessage(error.errnoCode) }
    if case SocketAddressError.unixDomainSocketPathTooLong = error {
      return "the path is longer than the 107 octets that a socket's path may have"
    }
    return "\(error)"
  }

  private static func bootstrap(
    group: MultiThreadedEventLoopGroup, source: @escaping StatusSource
  ) -> ServerBootstrap {
    let loop = group.next()
    let places = NIOLoopBoundBox.makeBoxSendingValue(0, eventLoop: loop)
    let gate = NIOLoopBoundBox.makeBoxSendingValue(
      SnapshotGate(loop: loop, source: source), eventLoop: loop)
    return ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 64)
      .childChannelInitializer { channel in
        guard places.value < connectionCountMax else {
          return channel.eventLoop.makeFailedFuture(ControlError("connections exhausted"))
        }
        return channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.configureHTTPServerPipeline(
            position: .last, withPipeliningAssistance: true, withServerUpgrade: nil,
            withErrorHandling: true, withOutboundHeaderValidation: true,
            withEncoderConfiguration: .init(), withDecoderLimitConfiguration: decoderLimits)
          let connection = HTTPConnection(gate: gate.value) { places.value -= 1 }
          try channel.pipeline.syncOperations.addHandler(connection)
          places.value += 1
        }
      }
  }

  private static var decoderLimits: NIOHTTPDecoderLimitConfiguration {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = headerFieldOctetsMax
    limits.maxHeaderListSize = headerOctetsMax
    limits.maxHeaderFieldCount = headerFieldCountMax
    return limits
  }
}
