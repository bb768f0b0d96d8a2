// The files that are shipped, and files that nobody would ship.

import Configuration
import Glibc
import TOML
import TestSupport
import Testing

@Suite("Shipped configurations") struct FileTests {
  /// `Config`, found from where this file is compiled.
  static let folder: String = {
    let parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    return parts.dropLast(3).joined(separator: "/") + "/Config"
  }()

  @Test("every file under Config is right and odd in nothing") func shipped() throws {
    var names = try Self.names(in: Self.folder).map { Self.folder + "/" + $0 }
    let examples = Self.folder + "/examples"
    names += try Self.names(in: examples).map { examples + "/" + $0 }
    #expect(names.count >= 5)
    for name in names {
      let bytes = try #require(Self.content(name), "\(name)")
      do throws(ConfigurationErrors) {
        let loaded = try Configuration.load(bytes, file: name)
        #expect(loaded.warnings.isEmpty, "\(loaded.warnings)")
        #expect(!loaded.configuration.forwards.isEmpty)
      } catch {
        Issue.record("\(error)")
      }
    }
  }

  @Test("the default configuration serves the status page at a virtual address") func welcome()
    throws
  {
    let bytes = try #require(Self.content(Self.folder + "/portferry.toml"))
    let configuration = try Configuration.load(bytes, file: "portferry.toml").configuration
    let rule = try #require(configuration.forwards.first)
    #expect(rule.name == "welcome")
    #expect(rule.listenText == "10.77.0.10:80, [fd77::10]:80")
    #expect(rule.targetText == configuration.daemon.status?.description)
    #expect(configuration.routedPrefixes.isEmpty)
  }

  @Test("the commented-out keys of the default configuration are right") func commentedKeys() throws
  {
    let bytes = try #require(Self.content(Self.folder + "/portferry.toml"))
    let text = String(decoding: bytes, as: UTF8.self)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      let words = line.split(separator: " ")
      let isKey = words.count > 3 && words[0] == "#" && words[2] == "="
      return isKey ? String(line.dropFirst(2)) : String(line)
    }
    #expect(lines.joined(separator: "\n") != text)
    #expect(rendered(lines.joined(separator: "\n")) == "")
  }

  @Test("random mutations of shipped files never trap") func mutations() throws {
    let seed = UInt64.random(in: .min ... .max)
    print("configuration mutations: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let samples = try ["port-ranges", "prefix-translation", "sandbox"].map { name in
      // Comments only slow the test down.
      let bytes = try #require(Self.content(Self.folder + "/examples/\(name).toml"))
      return bytes.split(separator: 0x0A).filter { $0.first != 0x23 }.joined(separator: [0x0A])
    }.map(Array.init)
    let pieces = [
      "*", "/", ":", "-", ",", "[", "]", "\"", "0", "65535", "99999999999999999999", "::", "/0",
      "/32", "/128", "[[forward]]\n", "[defaults]\n", "original", "\n", "=", "1", "\u{0}", "é",
    ].map { Array($0.utf8) }
    for round in 0..<4_000 {
      var bytes = samples[round % samples.count]
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[at] = UInt8.random(in: .min ... .max, using: &random)
        case 1:
          bytes.removeSubrange(
            at..<min(bytes.count - 1, at + Int.random(in: 0...4, using: &random)) + 1)
          if bytes.isEmpty { bytes = [0x0A] }
        default: bytes.insert(contentsOf: pieces.randomElement(using: &random) ?? [], at: at)
        }
      }
      do throws(ConfigurationErrors) {
        let loaded = try Configuration.load(bytes, file: "p.toml")
        _ = loaded.configuration.routedPrefixes
        #expect(ReloadDifference(from: loaded.configuration, to: loaded.configuration).isEmpty)
      } catch {
        #expect(
          error.diagnostics.contains { $0.severity == .error }, "seed \(seed), round \(round)")
      }
    }
  }

  private static func names(in folder: String) throws -> [String] {
    let directory = try #require(opendir(folder), "\(folder)")
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
        String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(".toml") { names.append(name) }
    }
    return names.sorted()
  }

  private static func content(_ path: String) -> [UInt8]? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      guard count > 0 else { return bytes }
      bytes.append(contentsOf: buffer[..<count])
    }
  }
}
