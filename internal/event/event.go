// Package event holds the noun that everybody says: the event, the beacon that
// carries it, and the vocabulary of both (event schema, version 1). The wire
// formats that are decoded into it are described field by field in
// docs/formats/beacon.md.
package event

import (
	"fmt"
	"slices"
)

// SchemaVersion is the version of the event schema that this package holds.
const SchemaVersion = 1

// Kind says what an event observes. The numbers cross the journal: append
// only.
type Kind uint8

// The kinds. The zero Kind is no kind and is never stored.
const (
	NoKind   Kind = iota
	Exposure      // the session is on an arm of a change
	Vital         // a web vital; the name says which
	Error         // an uncaught or handled error
	Crash         // the client program died
	Request       // a request of the client to somewhere
	Resource      // a resource that the client loaded
	LongTask      // the main thread was busy
	Start         // an app start
	ANR           // the app did not respond
	Metric        // a custom metric
	Event         // a custom event
	View          // a page or screen was shown
	Session       // a session began or ended
	NetFail       // the network failed, as the client's platform reports it
	Drop          // the client itself left something out
)

var kindNames = []string{"", "exposure", "vital", "error", "crash", "request", "resource", "longtask",
	"start", "anr", "metric", "event", "view", "session", "netfail", "drop"}

// String returns the kind as the wire spells it, empty for NoKind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Kinds returns the wire names of all kinds, in order, for error messages.
func Kinds() []string { return slices.Clone(kindNames[1:]) }

// ParseKind reads a kind as the wire spells it. The argument may alias a
// request body: it is not retained, and nothing is allocated.
func ParseKind(b []byte) (Kind, bool) {
	switch string(b) { // a switch over constants costs less than a search
	case "exposure":
		return Exposure, true
	case "vital":
		return Vital, true
	case "error":
		return Error, true
	case "crash":
		return Crash, true
	case "request":
		return Request, true
	case "resource":
		return Resource, true
	case "longtask":
		return LongTask, true
	case "start":
		return Start, true
	case "anr":
		return ANR, true
	case "metric":
		return Metric, true
	case "event":
		return Event, true
	case "view":
		return View, true
	case "session":
		return Session, true
	case "netfail":
		return NetFail, true
	case "drop":
		return Drop, true
	}
	return NoKind, false
}

// Tenancy is the traffic tenancy: what kind of traffic a beacon is. The
// numbers cross the journal: append only.
type Tenancy uint8

// The tenancies, from the most to the least privileged. Only production counts
// for a verdict unless a policy names another.
const (
	Production Tenancy = iota
	Test
	Shadow
	Synthetic
)

var tenancyNames = []string{"production", "test", "shadow", "synthetic"}

// String returns the tenancy as the wire spells it.
func (t Tenancy) String() string {
	if int(t) < len(tenancyNames) {
		return tenancyNames[t]
	}
	return fmt.Sprintf("tenancy(%d)", uint8(t))
}

// ParseTenancy reads a tenancy; the empty string is production.
func ParseTenancy(s string) (Tenancy, error) {
	if s == "" {
		return Production, nil
	}
	if i := slices.Index(tenancyNames, s); i >= 0 {
		return Tenancy(i), nil
	}
	return 0, fmt.Errorf("tenancy %q: want production, test, shadow or synthetic", s)
}

// Release names an immutable version of an app that reached clients, such as
// "2.4.1"; 1 to 128 bytes.
type Release string

// Arm says on which variant of one change the session is. Change is a key such
// as "release/2.4.1" or "flag/new-checkout"; Variant is "canary", "baseline" or
// a variant's name.
type Arm struct{ Change, Variant string }

// Attr is one attribute of an event. Num is true for numbers (in Number) and
// false for text; booleans are the texts "true" and "false".
type Attr struct {
	Key    string
	Text   string
	Number float64
	Num    bool
}

// One is one typed observation.
type One struct {
	Kind    Kind
	Name    string  // 1 to 128 bytes
	Time    int64   // Unix milliseconds UTC, corrected by the clock rule of ingest/admit
	Value   float64 // finite; meaning and unit depend on kind and name
	HasVal  bool    // whether the client gave a value
	Unit    string  // up to 16 bytes; vitals and durations are ms, CLS has no unit
	Message string  // up to 1,024 bytes
	Stack   string  // up to 8,192 bytes
	Attrs   []Attr  // at most 32, in the order of the wire
}

// Attr returns the attribute with that key.
func (o *One) Attr(key string) (Attr, bool) {
	for i := range o.Attrs {
		if o.Attrs[i].Key == key {
			return o.Attrs[i], true
		}
	}
	return Attr{}, false
}

// Flag reports whether the attribute with that key is the boolean true.
func (o *One) Flag(key string) bool {
	a, ok := o.Attr(key)
	return ok && !a.Num && a.Text == "true"
}

// Context is what a client says of itself. All strings are at most 256 bytes.
type Context struct {
	Platform string // web, ios, android, ...
	OS       string
	Browser  string
	Device   string // mobile, tablet or desktop
	Network  string // 4g, wifi, ...
	Country  string // set by the edge, never by the client
	Page     string // path without query and fragment
	Env      string // deployment environment such as production or staging; at most 128 bytes
	Prefix   string // keyed hash of the client's network, of the day; set by the edge, empty where it is not known or not wanted
}

// Unordered is the least sequence number of beacons whose protocol counts
// nothing: their numbers are hashes of the content, unique in a session but
// without order, so that a gap among them means nothing.
const Unordered uint32 = 1 << 31

// Dropped is what the client itself left out, by kind and cause such as
// "vital/sampled".
type Dropped struct {
	Cause string
	Count int64 // >= 1
}

// Beacon is one request body from a client: context plus events. The pair
// (Session, Seq) makes it idempotent within its tenant and app.
type Beacon struct {
	SDK      string // name/version, such as serin-js/1.0.0
	App      string
	Release  Release
	Tenancy  Tenancy
	Session  string
	User     string // empty, or a hash made by the client
	Seq      uint32
	Sent     int64 // Unix milliseconds UTC by the client's clock
	Received int64 // Unix milliseconds UTC by the server's clock
	Arms     []Arm
	Ctx      Context
	Events   []One
	Drops    []Dropped
}

// Reset empties b and keeps its memory for the next beacon.
func (b *Beacon) Reset() {
	events := b.Events[:0]
	*b = Beacon{Arms: b.Arms[:0], Events: events, Drops: b.Drops[:0]}
}
