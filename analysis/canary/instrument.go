package canary

import "slices"

// Instrument is one SDK, by name and version, and the sessions it measured.
type Instrument struct {
	SDK      string
	Sessions [2]int64 // by arm: baseline, canary
}

// maxInstruments bounds the SDKs that are told apart; the others share one.
const maxInstruments = 16

// instrument returns the index of an SDK.
func (t *Test) instrument(sdk string) int {
	if i := slices.IndexFunc(t.Instruments, func(x Instrument) bool { return x.SDK == sdk }); i >= 0 {
		return i
	}
	if len(t.Instruments) == maxInstruments {
		return maxInstruments - 1
	}
	t.Instruments = append(t.Instruments, Instrument{SDK: sdk})
	return len(t.Instruments) - 1
}

// comparable is how many sessions of each arm an instrument must have measured
// to count as used by both.
const comparable = 20

// unlike returns an SDK that measured canary sessions and hardly any of the
// baseline's, where such SDKs measured more than a tenth of the canary's: two
// SDKs can disagree about the truth, so that what looks like an improvement may
// be a new instrument.
func (t *Test) unlike() (sdk Instrument, found bool) {
	var alone int64
	for _, i := range t.Instruments {
		if i.Sessions[0] >= comparable {
			continue
		}
		alone += i.Sessions[1]
		if i.Sessions[1] > sdk.Sessions[1] {
			sdk = i
		}
	}
	return sdk, t.Sessions[0] >= comparable && t.Sessions[1] >= comparable && alone > t.Sessions[1]/10
}
