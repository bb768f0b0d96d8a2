// swift-tools-version: 6.2
import PackageDescription

// The folders are a client's packet's walk: Daemon above Linux above Core; see README.md.
// Dependencies run downwards only. Nothing in Core imports the platform.

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

func core(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(
    name: name, dependencies: dependencies, path: "Sources/Core/\(name)", swiftSettings: settings)
}

func linux(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(
    name: name, dependencies: dependencies, path: "Sources/Linux/\(name)", swiftSettings: settings)
}

func daemon(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(
    name: name, dependencies: dependencies, path: "Sources/Daemon/\(name)", swiftSettings: settings)
}

func tests(
  _ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []
) -> Target {
  .testTarget(
    name: name, dependencies: dependencies, path: "Tests/\(name)", exclude: exclude,
    swiftSettings: settings)
}

// Calls of the Swift runtime that no packet may cause: see Tests/Benchmarks/Counting.
let counted = [
  "swift_retain", "swift_retain_n", "swift_release", "swift_release_n", "swift_bridgeObjectRetain",
  "swift_bridgeObjectRelease", "swift_beginAccess",
]

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let lifecycle = Target.Dependency.product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
  name: "portferry",
  products: [.executable(name: "portferry", targets: ["portferry"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    core("Primitives"),
    core("Wire", ["Primitives"]),
    core("TOML"),
    core("Configuration", ["TOML", "Wire", "Primitives"]),
    core("SocketTable", ["Wire", "Primitives"]),
    core("TCP", ["Wire", "Primitives"]),
    core("UDP", ["Wire", "Primitives"]),
    core("ICMP", ["Wire", "Primitives"]),
    core("Fragments", ["Wire", "Primitives"]),
    core("Balancing", ["Configuration", "Wire", "Primitives"]),
    core("Relay", ["Wire", "Primitives"]),
    core("Steering", ["Wire"]),
    core(
      "Stack",
      [
        "Balancing", "Configuration", "Fragments", "ICMP", "Primitives", "Relay", "SocketTable",
        "Steering", "TCP", "UDP", "Wire",
      ]),

    .target(name: "CLinux", path: "Sources/Linux/CLinux"),
    .systemLibrary(
      name: "CLibnl", path: "Sources/Linux/CLibnl", pkgConfig: "libnl-3.0",
      providers: [.apt(["libnl-3-dev"])]),
    linux("Kernel", ["CLinux", "Primitives", "Wire"]),
    linux("TunDevice", ["CLinux", "Kernel", "Primitives", "Wire"]),
    linux("Netlink", ["CLibnl", "CLinux", "Kernel", "Primitives", "Wire"]),

    daemon(
      "Worker",
      [
        "Configuration", "Kernel", "Primitives", "SocketTable", "Stack", "Steering", "TCP",
        "TunDevice", "Wire", logging,
      ]),
    daemon(
      "Control",
      [
        "Configuration", "Kernel", "Primitives", "Wire", "Worker", logging, nioCore, nioPosix,
        nioHTTP1,
      ]),
    daemon(
      "Supervisor",
      [
        "Configuration", "Control", "Kernel", "Netlink", "Primitives", "Stack", "Steering", "TOML",
        "TunDevice", "Wire", "Worker", lifecycle, logging,
      ]),
    .executableTarget(
      name: "portferry",
      dependencies: ["Configuration", "Supervisor", "TOML", "Wire", argumentParser, logging],
      path: "Sources/Daemon/portferry", swiftSettings: settings),

    .executableTarget(
      name: "toml-decoder", dependencies: ["TOML"], path: "Tests/TOMLDecoder",
      swiftSettings: settings),
    .target(
      name: "SimulationModel",
      dependencies: [
        "Stack", "Configuration", "SocketTable", "Steering", "TCP", "Wire", "Primitives",
      ],
      path: "Tests/StackSimulation/Model", swiftSettings: settings),
    .executableTarget(
      name: "portferry-simulation", dependencies: ["SimulationModel", "Primitives"],
      path: "Tests/StackSimulation/Runner", swiftSettings: settings),
    // What a packet costs; Tests/Benchmarks is also a package of its own, which times the same paths.
    .target(
      name: "HotPaths",
      dependencies: [
        "Configuration", "Primitives", "SocketTable", "Stack", "TCP", "Wire",
      ], path: "Tests/Benchmarks/HotPaths", swiftSettings: settings),
    .target(name: "Counting", path: "Tests/Benchmarks/Counting"),
    // SwiftPM compiles a target anew when a direct dependency changed: those whose values lie in the values
    // of HotPaths are some, or the gate would keep an old size of them.
    .executableTarget(
      name: "portferry-hotpath",
      dependencies: [
        "Counting", "HotPaths", "Configuration", "Primitives", "SocketTable", "Stack", "TCP",
        "Wire",
      ],
      path: "Tests/Benchmarks/Gate", swiftSettings: settings,
      linkerSettings: [.unsafeFlags(counted.flatMap { ["-Xlinker", "--wrap=\($0)"] })]),
    .executableTarget(
      name: "portferry-scaling",
      dependencies: [
        "Configuration", "HotPaths", "Kernel", "Primitives", "Stack", "Steering", "Wire",
      ],
      path: "Tests/Scaling", swiftSettings: settings),
    .target(
      name: "TestSupport", dependencies: ["Steering", "Wire"], path: "Tests/TestSupport",
      swiftSettings: settings),
    tests("PrimitivesTests", ["Primitives", "TestSupport"]),
    tests("WireTests", ["Wire", "Primitives", "TestSupport"]),
    tests("TOMLTests", ["TOML", "TestSupport"]),
    tests("ConfigurationTests", ["Configuration", "TOML", "Wire", "Primitives", "TestSupport"]),
    tests("SocketTableTests", ["SocketTable", "Wire", "Primitives", "TestSupport"]),
    tests(
      "TCPTests", ["TCP", "Wire", "Primitives"], exclude: ["CONFORMANCE.md", "KERNEL.md"]),
    tests("RelayTests", ["Relay", "Primitives"]),
    tests("SteeringTests", ["Steering", "TestSupport", "Wire"]),
    tests("FragmentsTests", ["Fragments", "TestSupport", "Wire", "Primitives"]),
    tests("ICMPTests", ["ICMP", "Wire", "Primitives", "TestSupport"]),
    tests(
      "StackTests",
      [
        "Stack", "Configuration", "SocketTable", "Steering", "TCP", "TestSupport", "Wire",
        "Primitives",
      ]),
    .testTarget(
      name: "StackSimulation", dependencies: ["SimulationModel", "Primitives"],
      path: "Tests/StackSimulation/Tests", swiftSettings: settings),
    tests("UDPTests", ["UDP", "TestSupport", "Wire", "Primitives"]),
    tests("BalancingTests", ["Balancing", "Configuration", "Wire", "Primitives"]),
    tests(
      "WorkerTests",
      ["Worker", "Configuration", "Kernel", "Stack", "TestSupport", "Wire", "Primitives"]),
    tests(
      "ControlTests",
      [
        "Control", "Configuration", "Primitives", "Stack", "TestSupport", "Wire", "Worker", logging,
      ]),
    tests(
      "SupervisorTests",
      [
        "Supervisor", "Configuration", "Kernel", "Primitives", "TOML", "TestSupport", "Wire",
        logging,
      ]),
    tests(
      "LinuxTests",
      ["Kernel", "TunDevice", "Netlink", "Steering", "TestSupport", "Wire", "Primitives"]),
  ]
)
