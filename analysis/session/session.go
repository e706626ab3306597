// Package session folds batches into session outcomes: what one session
// contributes to a verdict, each metric once. It also decides which beacons
// are duplicates, since (session, seq) is what makes a beacon idempotent.
//
// A [Table] is a pure function of the rows it was shown, in their order: it
// reads no clock, and its time is the receive time of the rows.
package session

import (
	"math"
	"slices"
	"strings"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Metric is a guardrail metric: something that a session fails at most once.
// The numbers are kept in checkpoints: append only.
type Metric uint8

// The metrics. A session fails
const (
	Errors    Metric = iota // with an uncaught error, a crash or an ANR
	LCP                     // with a Largest Contentful Paint above 2,500 ms
	INP                     // with an Interaction to Next Paint above 200 ms
	CLS                     // with a Cumulative Layout Shift above 0.1
	Requests                // with a request that got no answer or a 5xx
	Telemetry               // by saying nothing after its first beacon
	Metrics                 // how many metrics there are
)

var metricNames = [Metrics]string{"error_free", "lcp_good", "inp_good", "cls_good", "requests_ok", "telemetry"}

// String returns the guardrail's name.
func (m Metric) String() string { return metricNames[m] }

// ParseMetric reads a guardrail's name.
func ParseMetric(s string) (Metric, bool) {
	i := slices.Index(metricNames[:], s)
	return Metric(max(i, 0)), i >= 0
}

// Names returns the guardrails' names in order.
func Names() []string { return slices.Clone(metricNames[:]) }

// The limits of good of the Core Web Vitals (https://web.dev/articles/vitals).
const (
	GoodLCP = 2500 // ms
	GoodINP = 200  // ms
	GoodCLS = 0.1
)

// TTL is how long after its last beacon a session that takes part in a rollout
// is kept, in ms of receive time. An SDK ends a session after 4 hours, so that a
// retry of a forgotten session can only come from a queue that was offline for
// longer. Idle is the same for all other sessions, which count for no verdict: a
// beacon of one that comes later begins a session anew in the cells.
const (
	TTL  = 6 * 3600_000
	Idle = 30 * 60_000
)

// maxHashed bounds the numbers without order that are kept for one session. A
// retry comes within minutes, so the oldest are forgotten first.
const maxHashed = 512

// maxSparse bounds the numbers kept out of order for one session: a forged
// seq costs memory, so past this a beacon is refused.
const maxSparse = 512

// Key names a session.
type Key struct{ Tenant, App, ID string }

// Session is what is known of one session. All fields are kept in checkpoints.
type Session struct {
	Key     Key
	Entered int64  // receive time of the first beacon, Unix ms
	Last    int64  // receive time of the newest beacon
	Next    uint32 // all numbers below were seen
	Sparse  []uint32
	Hashed  []uint32 // the newest numbers from event.Unordered on, which have no order
	Beacons int64    // distinct beacons
	Spoke   int64    // receive time of the second of them; 0 before it came
	Failed  uint16
	Shed    bool // events of it were shed at the edge
	Seen    Seen // what it reported
	// Enrolled is where the session counts; written by the owner of the table.
	Enrolled []Enrollment
}

// Enrollment is a session's place in one rollout, fixed at its first beacon.
type Enrollment struct {
	Rollout string
	Canary  bool
	Stratum int
	Epoch   int64
	Network string // keyed hash of the network of its first beacon; empty where it is not known
	User    uint64 // hash of its user, or of the session where it names none; 0 where no guardrail counts users
	Leads   bool   // it is the one by which its user is counted
	Part    Part   // its place among the customers of the app, where a policy names them
}

// Part is a session's place among the customers of an app.
type Part struct {
	Customer int
	Epoch    int64
}

// Gap returns how many numbers below the highest seen are missing: beacons
// that were made and did not arrive, so far.
func (s *Session) Gap() int64 {
	if len(s.Sparse) == 0 {
		return 0
	}
	return int64(slices.Max(s.Sparse)) - int64(s.Next) + 1 - int64(len(s.Sparse))
}

// Has reports whether the session failed a metric.
func (s *Session) Has(m Metric) bool { return s.Failed&(1<<m) != 0 }

// Fold applies the rows [lo, hi) of one beacon to its session and returns the
// metrics that it failed just now, for the first time. The slice is valid
// until the next call.
func (t *Table) Fold(s *Session, b *batch.Batch, lo, hi int) (failed []Metric) {
	for r := lo; r < hi; r++ {
		s.Seen |= reported(b, r)
		if m, ok := Failure(b, r); ok && !s.Has(m) {
			s.Failed |= 1 << m
			failed = append(failed, m)
		}
	}
	return failed
}

// Shed reports whether the rows [lo, hi) of one beacon say, for the first time
// of their session, that the edge shed events of it.
func (t *Table) Shed(s *Session, b *batch.Batch, lo, hi int) bool {
	if s.Shed {
		return false
	}
	for r := lo; r < hi; r++ {
		if b.Kind(r) == event.Drop && strings.HasPrefix(b.Text(batch.Name, r), event.ShedCause) {
			s.Shed = true
			return true
		}
	}
	return false
}

// Failure says which metric the event in a row fails, if any.
func Failure(b *batch.Batch, row int) (Metric, bool) {
	switch b.Kind(row) {
	case event.Crash, event.ANR:
		return Errors, true
	case event.Error:
		return Errors, !b.HasAttr(row, "handled", "true")
	case event.Vital:
		v, ok := b.Value(row)
		if !ok || math.IsNaN(v) {
			return 0, false
		}
		switch b.Text(batch.Name, row) {
		case "LCP":
			return LCP, v > GoodLCP
		case "INP":
			return INP, v > GoodINP
		case "CLS":
			return CLS, v > GoodCLS
		}
	case event.Request:
		return Requests, b.HasAttr(row, "failed", "true")
	case event.NetFail:
		return Requests, true
	}
	return 0, false
}
