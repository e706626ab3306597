package session

import (
	"strings"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Seen is a set of what a session reported. The bits are kept in checkpoints:
// append only.
type Seen uint8

// What a session can have reported.
const (
	Shown      Seen = 1 << iota // a view, an app start or a paint: it got as far as showing something
	SeenLCP                     //
	SeenINP                     // there was an interaction
	SeenCLS                     //
	ClientDrop                  // the client itself left something out
	Booted                      // what stands in the page before the SDK told that the page came
	Inited                      // and the SDK that it started there
)

// Loss is something that a session of a fixed age lacks, or has lost. Unlike a
// [Metric] it tells nothing of how well the session went; it tells whether two
// arms are measured alike. The numbers are kept in checkpoints: append only.
type Loss uint8

// The losses.
const (
	NoShow  Loss = iota // it did not get as far as showing something
	NoLCP               // no Largest Contentful Paint was reported
	NoINP               // no Interaction to Next Paint was: there was no first interaction, or none was told
	NoCLS               // no Cumulative Layout Shift was
	Gap                 // beacons that it numbered did not come
	Dropped             // the client told that it left something out
	NoInit              // the page came, and its SDK did not start: it was not fetched, or broke
	Losses              // how many there are
)

var lossNames = [Losses]string{"no_show", "no_lcp", "no_inp", "no_cls", "seq_gap", "client_drop", "no_init"}

// String returns the loss's name.
func (l Loss) String() string { return lossNames[l] }

// LossNames returns the names of the losses in order.
func LossNames() []string { return append([]string(nil), lossNames[:]...) }

// Lacks reports whether the session has the loss so far.
func (s *Session) Lacks(l Loss) bool {
	switch l {
	case NoShow:
		return s.Seen&Shown == 0
	case NoLCP:
		return s.Seen&SeenLCP == 0
	case NoINP:
		return s.Seen&SeenINP == 0
	case NoCLS:
		return s.Seen&SeenCLS == 0
	case Gap:
		return s.Gap() > 0
	case Dropped:
		return s.Seen&ClientDrop != 0
	case NoInit:
		return s.Seen&(Booted|Inited) == Booted
	}
	panic("BUG: no such loss")
}

// reported returns what the event in a row adds to what a session reported.
func reported(b *batch.Batch, row int) Seen {
	switch b.Kind(row) {
	case event.View, event.Start:
		return Shown
	case event.Vital:
		switch b.Text(batch.Name, row) {
		case "LCP":
			return Shown | SeenLCP
		case "FCP":
			return Shown
		case "INP":
			return SeenINP
		case "CLS":
			return SeenCLS
		}
	case event.Session:
		switch b.Text(batch.Name, row) {
		case "boot":
			return Booted
		case "init":
			return Inited
		}
	case event.Drop:
		if !strings.HasPrefix(b.Text(batch.Name, row), event.ShedCause) {
			return ClientDrop
		}
	}
	return 0
}
