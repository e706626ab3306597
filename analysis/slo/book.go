package slo

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// The bounds of what is kept of one objective. A client can invent releases, arms
// and strata: past the bound they share [Other], so that memory stays and sums
// stay exact.
const (
	maxGroups   = 256
	maxReleases = 256
	maxArms     = 128
	maxStrata   = 128
	maxUnits    = 1 << 20 // sessions or users that are told apart at once
)

// Names of what has none.
const (
	Unknown = "unknown"
	Other   = "__other__"
)

// How long a unit is counted once, in ms of receive time from when it was last
// seen to count.
const (
	SessionTTL = 6 * 3600_000
	UserTTL    = 24 * 3600_000
)

// cappedPerHour is how many bad events of one session may be evidence for an
// alert within an hour: a client that loops must not page.
const cappedPerHour = 5

// fineHorizon is for how long minutes are kept, in minutes: the longest window of
// the workbook but one. Windows that begin before are rounded to quarters.
const fineHorizon = 25 * 60

// Book is the counts of one objective. Exported fields are kept in checkpoints.
type Book struct {
	Objective  Objective
	Began      int64 // when counting began, Unix ms
	Now        int64 // newest receive time of a row of the app, Unix ms
	All        Group
	Groups     []*Group
	Cohorts    []*Cohort
	Lost       Series // events known to be missing: shed at the edge or dropped by clients
	Units      map[uint64]Unit
	Swept      int64            // when units were last looked through
	Restated   verdict.Restated // what came late, since Began
	Late       []Restatement    // of it what is in no ledger yet, by day
	Exceptions []verdict.SLOException
	Spenders   []*Spender // rollouts whose spending is bounded

	m *matching
}

// Restatement corrects one day of history.
type Restatement struct {
	Day   string `json:"day"` // UTC, of the events' own time
	Total int64  `json:"total"`
	Bad   int64  `json:"bad"`
}

// Group is all of an objective's traffic, or the part with one value of its
// grouping column.
type Group struct {
	Name     string // empty: all
	Units    Series
	Sessions Series // of the app, whether or not they have anything to count
	Failing  []Client
	Detector Detector

	slices sliceSums
}

// Client is a session, or a user, of which something is bad, and when last.
type Client struct {
	ID uint64
	At int32 // minutes
}

// Cohort is what shares release, arms and stratum. Its series keeps quarters.
type Cohort struct {
	Release, Arms, Stratum string
	Units                  Series
}

// Unit is a session or a user that was counted.
type Unit struct {
	Cohort, Group int32  // Group -1: none
	At            int32  // minute in which it counts
	Hour          int32  // in which Evidence was given
	Network       uint32 // hash of the network that it is counted for; of a session or user
	Bad           bool
	Evidence      uint8 // bad events that were evidence in that hour
	Last          int64 // receive time, Unix ms
}

// matching is what a book derives from its objective.
type matching struct {
	total, good, bad *matcher
	groupBy          batch.Column
	strata           []batch.Column
	groups           map[string]int
	cohorts          map[[3]string]int
	names            [3]map[string]bool // releases, arms, strata that are told apart
}

// NewBook returns an empty book. at is when the objective was applied, Unix ms.
func NewBook(o Objective, at int64) *Book {
	b := &Book{Objective: o, Began: at, Units: map[uint64]Unit{}}
	b.Restore()
	return b
}

// Restore derives what checkpoints do not hold, and must be called after a book
// was read from one.
func (b *Book) Restore() {
	if b.Units == nil {
		b.Units = map[uint64]Unit{}
	}
	o := &b.Objective
	m := &matching{total: o.Total.matcher(), groups: map[string]int{}, cohorts: map[[3]string]int{}, names: [3]map[string]bool{{}, {}, {}}}
	if o.Good != nil {
		m.good = o.Good.matcher()
	}
	if o.Bad != nil {
		m.bad = o.Bad.matcher()
	}
	m.groupBy = columns[o.GroupBy]
	for _, s := range o.Strata {
		m.strata = append(m.strata, columns[s])
	}
	for i, g := range b.Groups {
		m.groups[g.Name] = i
	}
	for i, c := range b.Cohorts {
		m.cohorts[[3]string{c.Release, c.Arms, c.Stratum}] = i
		for k, name := range [...]string{c.Release, c.Arms, c.Stratum} {
			if name != Other {
				m.names[k][name] = true
			}
		}
	}
	b.m = m
}

// Replace takes another version of the objective and keeps what was counted, where
// it counts the same; ok is false where it does not, and needs another book.
func (b *Book) Replace(o Objective) (ok bool) {
	if o.counted() != b.Objective.counted() {
		return false
	}
	b.Objective = o
	b.Restore()
	return true
}

func minuteOf(ms int64) int32 { return int32(ms / 60_000) }

// Advance moves the book's time to a receive time, in Unix ms: minutes that are
// over are looked at by the sequential tests, and old ones become quarters.
func (b *Book) Advance(now int64) {
	if now <= b.Now {
		return
	}
	before, after := minuteOf(b.Now), minuteOf(now)
	first := b.Now == 0
	b.Now = now
	if first || before == after {
		return
	}
	rate := b.Objective.trickleRate()
	b.All.Detector.advance(&b.All.Units, rate, before, after)
	for _, g := range b.Groups {
		g.Detector.advance(&g.Units, rate, before, after)
	}
	if before/60 != after/60 {
		b.compact(after)
	}
}

// compact is done once an hour of receive time.
func (b *Book) compact(now int32) {
	o := &b.Objective
	keep := minutes(o.Window.Period())
	if !o.Window.Rolling {
		keep += keep / 10 // a quarter has up to 92 days, a year 366
	}
	keep = max(keep, minutes(o.longest())) + minutes(o.Lateness) + 1440
	fine := int32(fineHorizon)
	if o.Method != Occurrences { // slices are judged from their minutes
		fine = keep
	}
	if o.usual() {
		keep = max(keep, usualWeeks*week+minutes(o.longest())+1440)
	}
	for _, g := range append([]*Group{&b.All}, b.Groups...) {
		g.Units.Compact(now-fine, now-keep)
		g.Sessions.Compact(now-fineHorizon, now-keep)
	}
	b.Lost.Compact(now-fineHorizon, now-keep)
	for _, c := range b.Cohorts {
		c.Units.Compact(now+quarter, now-keep)
	}
	ttl := b.unitTTL()
	for id, u := range b.Units {
		if b.Now-u.Last > ttl {
			delete(b.Units, id)
		}
	}
}

func (b *Book) unitTTL() int64 {
	if b.Objective.Unit == UnitUser {
		return UserTTL
	}
	return SessionTTL
}

// Beacon counts the rows [lo, hi) of one beacon of the objective's app that is no
// duplicate. first says that it is the first of its session.
func (b *Book) Beacon(bt *batch.Batch, lo, hi int, first bool) {
	if bt.Text(batch.Tenancy, lo) != b.Objective.Tenancy {
		return
	}
	group := -1
	if b.Objective.GroupBy != "" {
		group = b.group(bt.Text(b.m.groupBy, lo))
	}
	received := bt.Received(lo)
	if first {
		one := Counts{Total: 1}
		b.All.Sessions.Add(minuteOf(received), one)
		if group >= 0 {
			b.Groups[group].Sessions.Add(minuteOf(received), one)
		}
	}
	cohort, id, prefix := -1, uint64(0), ""
	for r := lo; r < hi; r++ {
		if bt.Kind(r) == event.Drop {
			b.lost(bt, r)
		}
		if !b.m.total.matches(bt, r) {
			continue
		}
		bad, counts := b.judge(bt, r)
		if !counts {
			continue
		}
		if cohort < 0 {
			cohort, id, prefix = b.cohort(bt, lo), clientID(bt, lo, b.Objective.Unit), bt.Text(batch.Prefix, lo)
		}
		at := minuteOf(min(bt.Time(r), received)) // nothing happens after it was received
		if b.Objective.Unit == UnitEvent {
			b.event(id, cohort, group, at, received, bad)
		} else {
			b.unit(id, cohort, group, at, received, prefix, bad)
		}
	}
}

// judge says whether a row of the total is bad. A value that a threshold needs and
// that is not there does not count.
func (b *Book) judge(bt *batch.Batch, r int) (bad, counts bool) {
	if t := b.Objective.Threshold; t != nil {
		v, ok := bt.Value(r)
		return ok && !t.Holds(v), ok && v == v
	}
	if b.m.good != nil {
		return !b.m.good.matches(bt, r), true
	}
	return b.m.bad.matches(bt, r), true
}

// lost counts events that a row reports as missing. They have no time of their own.
func (b *Book) lost(bt *batch.Batch, r int) {
	kind, _, _ := strings.Cut(bt.Text(batch.Name, r), "/")
	if kind+"/" != event.ShedCause && b.Objective.Total.Kind != "" && kind != b.Objective.Total.Kind {
		return
	}
	if v, ok := bt.Value(r); ok && v >= 1 && v < 1e9 {
		b.Lost.Add(minuteOf(bt.Received(r)), Counts{Total: int64(v)})
	}
}

// event counts one event.
func (b *Book) event(id uint64, cohort, group int, at int32, received int64, bad bool) {
	c := Counts{Total: 1}
	if bad {
		c.Bad = 1
		u, known := b.Units[id]
		if u.Hour != at/60 {
			u.Hour, u.Evidence = at/60, 0
		}
		if u.Evidence < cappedPerHour && (known || len(b.Units) < maxUnits) {
			u.Evidence++
			c.Capped = 1
			u.Last = received
			b.Units[id] = u
		}
	}
	b.count(cohort, group, at, received, c)
	if bad {
		b.failing(id, group, at)
	}
}

// unit counts a session or a user once: where it was first seen, and from the
// moment that it fails there instead, for the network from which it then was.
func (b *Book) unit(id uint64, cohort, group int, at int32, received int64, prefix string, bad bool) {
	u, known := b.Units[id]
	if known && received-u.Last > b.unitTTL() {
		known = false
	}
	switch {
	case !known && len(b.Units) >= maxUnits:
		b.Lost.Add(minuteOf(received), Counts{Total: 1}) // told as incomplete, and counted nowhere
		return
	case !known:
		u = Unit{Cohort: int32(cohort), Group: int32(group), At: at, Network: hashNetwork(prefix), Bad: bad, Last: received}
		c := Counts{Total: 1}
		if bad {
			c.Bad, c.Capped = 1, 1
		}
		b.count(cohort, group, at, received, c)
		for _, s := range b.Spenders {
			s.came(b, cohort, at, prefix, bad)
		}
	case bad && !u.Bad:
		if b.late(u.At, received) && b.late(at, received) {
			b.restate(u.At, Counts{Total: -1}) // history had the unit already: what comes late is that it failed
		}
		b.count(int(u.Cohort), int(u.Group), u.At, b.Now, Counts{Total: -1})
		b.count(int(u.Cohort), int(u.Group), at, received, Counts{Total: 1, Bad: 1, Capped: 1})
		for _, s := range b.Spenders {
			s.left(b, int(u.Cohort), u.At, u.Network)
			s.came(b, int(u.Cohort), at, prefix, true)
		}
		u.Bad, u.At, u.Network, u.Last = true, at, hashNetwork(prefix), received
	default:
		u.Last = received
	}
	b.Units[id] = u
	if bad {
		b.failing(id, int(u.Group), at)
	}
}

// count adds to all that a unit is a part of, so that their sums agree.
func (b *Book) count(cohort, group int, at int32, received int64, c Counts) {
	b.All.Units.Add(at, c)
	if group >= 0 {
		b.Groups[group].Units.Add(at, c)
	}
	b.Cohorts[cohort].Units.Add(at-mod(at, quarter), c)
	// What moves within the book has been told already.
	if c.Total > 0 && b.late(at, received) {
		b.restate(at, c)
	}
}

// late reports whether what is received at a time is late for a minute.
func (b *Book) late(at int32, received int64) bool {
	return received-int64(at)*60_000 > b.Objective.Lateness.Milliseconds()+60_000
}

func (b *Book) restate(at int32, c Counts) {
	b.Restated.Total += c.Total
	b.Restated.Bad += c.Bad
	day := dayOf(at)
	i, ok := slices.BinarySearchFunc(b.Late, day, func(r Restatement, d string) int { return strings.Compare(r.Day, d) })
	if !ok {
		b.Late = slices.Insert(b.Late, i, Restatement{Day: day})
	}
	b.Late[i].Total += c.Total
	b.Late[i].Bad += c.Bad
}

// failing notes that something of a client is bad.
func (b *Book) failing(id uint64, group int, at int32) {
	b.All.failing(id, at, b.Objective.MinClients)
	if group >= 0 {
		b.Groups[group].failing(id, at, b.Objective.MinClients)
	}
}

// failing keeps the n clients that failed last, the newest first. A window has n
// of them exactly if the last one kept failed within it.
func (g *Group) failing(id uint64, at int32, n int) {
	if i := slices.IndexFunc(g.Failing, func(c Client) bool { return c.ID == id }); i >= 0 {
		at = max(at, g.Failing[i].At)
		g.Failing = slices.Delete(g.Failing, i, i+1)
	}
	i := 0
	for i < len(g.Failing) && g.Failing[i].At > at {
		i++
	}
	g.Failing = slices.Insert(g.Failing, i, Client{id, at})
	if len(g.Failing) > n {
		g.Failing = g.Failing[:n]
	}
}

// clients reports whether at least n clients failed since a minute.
func (g *Group) clients(n int, since int32) bool {
	return n <= 0 || len(g.Failing) >= n && g.Failing[n-1].At >= since
}

func (b *Book) group(name string) int {
	if name == "" {
		name = Unknown
	}
	if i, ok := b.m.groups[name]; ok {
		return i
	}
	if len(b.Groups) >= maxGroups-1 {
		name = Other
		if i, ok := b.m.groups[name]; ok {
			return i
		}
	}
	b.Groups = append(b.Groups, &Group{Name: name})
	b.m.groups[name] = len(b.Groups) - 1
	return len(b.Groups) - 1
}

// cohort returns the place of a beacon's cohort, which is made on first sight.
// Each of its names overflows by itself: that there are too many strata must not
// hide a release.
func (b *Book) cohort(bt *batch.Batch, row int) int {
	parts := make([]string, 0, 4)
	for _, c := range b.m.strata {
		v := bt.Text(c, row)
		if v == "" {
			v = Unknown
		}
		parts = append(parts, v)
	}
	key := [3]string{bt.Text(batch.Release, row), bt.Text(batch.Arms, row), strings.Join(parts, "/")}
	if key[0] == "" {
		key[0] = Unknown
	}
	if i, ok := b.m.cohorts[key]; ok {
		return i
	}
	for k, most := range [...]int{maxReleases, maxArms, maxStrata} {
		if !b.m.names[k][key[k]] {
			if len(b.m.names[k]) >= most {
				key[k] = Other
			} else {
				b.m.names[k][key[k]] = true
			}
		}
	}
	if i, ok := b.m.cohorts[key]; ok {
		return i
	}
	// Since Cut lies ahead, the series keeps quarters from the start.
	b.Cohorts = append(b.Cohorts, &Cohort{Release: key[0], Arms: key[1], Stratum: key[2]})
	b.m.cohorts[key] = len(b.Cohorts) - 1
	return len(b.Cohorts) - 1
}

// clientID returns what a unit, or the client of an event, is known by.
func clientID(bt *batch.Batch, row int, unit string) uint64 {
	text := bt.Text(batch.Session, row)
	if user := bt.Text(batch.User, row); unit == UnitUser && user != "" {
		text = "user " + user // no session's id has a space
	}
	sum := sha256.Sum256([]byte(text))
	return binary.LittleEndian.Uint64(sum[:])
}
