// Faults that the simulation switches on one at a time, to see that its checks find them.
//
// Neither this file nor the places that ask it are part of a build without PLANTED_FAULTS, and
// nothing but `Scripts/simulate` builds with it. A place reads "if the fault is planted, do it
// wrong"; without a fault planted, the code is the one that is shipped.

#if PLANTED_FAULTS
  @usableFromInline package enum PlantedFault: String, CaseIterable, Sendable {
    /// A run in front of a gap is noted as one octet longer than it is, and merged with its neighbour.
    case notesOctetTooMany
    /// The last octet of a chunk is not copied.
    case losesOctetAtChunkBorder
    /// One octet too few is cut from a segment that begins with old ones.
    case cutsOldOctetsShort
    /// The client's FIN is acknowledged when it arrives.
    case acknowledgesFinishEarly
    /// Octets are acknowledged when they arrive.
    case acknowledgesUntaken
    /// The advertised window's right edge may move back.
    case takesEdgeBack
    case forgetsRetransmissionTimer
    case forgetsPersistTimer
    /// Segments with an old timestamp are taken: no PAWS.
    case takesOldTimestamps
    /// The client's window is exceeded by an octet.
    case exceedsWindowByOne
    /// A FIN that is sent again lacks its flag.
    case losesFinishWhenSentAgain
    /// The time-out trusts selective acknowledgements that the client may have taken back.
    case trustsTakenBackBlocks
    /// Selective acknowledgements split what is in flight at any octet.
    case splitsAtAnyOctet
    /// A reset anywhere in the window is believed.
    case believesBlindResets
    /// The client's reset becomes an orderly end for the target.
    case hidesReset
    /// Sequence numbers are compared as plain numbers.
    case comparesSequencesPlainly
    /// A chunk that is given back is lost.
    case leaksChunk
    /// An acknowledged chunk goes back twice.
    case givesChunkTwice
    /// A flow that found the payload pool spent is not asked again.
    case forgetsStarvedFlow
    /// A congestion mark is echoed until the next segment without one.
    case echoesMarksOnce
    /// What is sent again is ECT too.
    case sendsAgainAsCapable
    /// Every echo reduces the window, not one for each window of data.
    case reducesForEachEcho
    /// Echoes mean nothing.
    case ignoresEchoes
    /// A client that answers a keep-alive question counts as silent all the same.
    case ignoresSignsOfLife
    /// A dead client is asked for ever.
    case asksForEver
    /// A flow that moves is cut for its memory.
    case cutsMovingFlows
    /// What no target took is left in the buffers that the device is read into.
    case keepsSlices
    /// The timer of a flow that has ended stays armed.
    case leavesTimerArmed
    /// A part of the five-tuples is given up while a flow of it lives.
    case leavesHomeEarly

    /// The one that is planted; set before anything else happens in the process.
    package nonisolated(unsafe) static var planted: PlantedFault?

    @usableFromInline package static func isPlanted(_ fault: PlantedFault) -> Bool {
      planted == fault
    }
  }
#endif
