package admit

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// maxPressure is the pressure at which everything but accounting is shed; of
// crashes only a quota asks so much. maxShared is the most that the server's own
// shortage may ask of them, so that they are kept: a store that is slow for
// another reason than load is not helped by losing them.
const (
	maxPressure = float64(event.Classes - 1)
	maxShared   = maxPressure - 1
)

// The controller. Pressure moves once in a tick: up for the one tenant that
// takes most, by a step, while the store's queue is longer than its target;
// down for all, slowly, while it is not.
const (
	tick       = 100 * time.Millisecond
	stepUp     = 0.25
	stepDown   = 0.05
	quotaGain  = 0.5 // pressure per tick for a rate of twice the quota
	delayFloor = 50 * time.Millisecond
	shortTicks = 3   // in a row before anything is shed: one slow sync is no overload
	idleTicks  = 600 // after which a tenant without traffic is forgotten

	// refuseAt is at how many times its quota, and refuseFrom at how many
	// events per second, a tenant's requests begin to be refused before they are
	// read: up to there shedding, which knows sessions and classes, is the fairer
	// way; past it the reading alone would cost the other tenants.
	refuseAt   = 4.
	refuseFrom = 5000.
	maxRefused = 0.98
)

// Gate sheds events where the server or a tenant's quota is short. What it
// sheds depends on the class of an event and on a hash of its session, and on
// nothing else, so that all cohorts of a tenant lose the same share. It is safe
// for concurrent use; [Gate.Run] must run for it to react.
type Gate struct {
	target  time.Duration
	shorts  []func() bool                     // further signs of a shortage
	live    atomic.Pointer[map[string][]Live] // by tenant
	mu      sync.Mutex
	tenants map[gateKey]*load
	short   int          // ticks in a row in which the store was slow
	delay   atomic.Int64 // shortest wait for the store within this tick, ns; 0: none
	late    atomic.Int64 // likewise for a processor
	busy    atomic.Bool  // something was sent in the last tick
}

// gateKey parts production from all other traffic, which has a quota of its
// own.
type gateKey struct {
	id         tenant.ID
	production bool
}

// load is what one tenant sends, and how much of it is shed.
type load struct {
	quota    float64 // events per second; 0: no bound
	offered  atomic.Int64
	taken    atomic.Int64
	pressure atomic.Uint64 // float64 bits, 0 to maxPressure
	crash    atomic.Uint64 // the same, for crashes
	quotaP   float64       // the part of it that the quota demands
	sharedP  float64       // the part that the server's shortage demands
	rate     float64       // offered events per second, smoothed
	asked    atomic.Uint64 // requests that were in question
	refused  atomic.Uint64 // float64 bits: the share of requests that is refused unread
	idle     int
}

// NewGate returns a gate that sheds where the store takes longer than target
// to acknowledge, where a goroutine waits longer than that for a processor, or
// where one of shorts, which are asked once in a tick, says that the server is
// short of something else; 0 is 50 ms.
func NewGate(target time.Duration, shorts ...func() bool) *Gate {
	if target == 0 {
		target = delayFloor
	}
	return &Gate{target: target, shorts: shorts, tenants: map[gateKey]*load{}}
}

// Waited tells the gate how long a beacon waited for the store. The shortest
// wait of a tick counts: a queue that empties now and then is no overload
// (Nichols and Jacobson, Controlling Queue Delay, 2012).
func (g *Gate) Waited(d time.Duration) { shortest(&g.delay, d) }

func shortest(of *atomic.Int64, d time.Duration) {
	for {
		old := of.Load()
		if old != 0 && old <= int64(d) || of.CompareAndSwap(old, max(int64(d), 1)) {
			return
		}
	}
}

// pulse is how often the wait for a processor is measured while anything is
// sent; an idle server is left alone for as long as a tick.
const pulse = 10 * time.Millisecond

// feel measures how late a goroutine gets a processor, until ctx ends.
func (g *Gate) feel(ctx context.Context) {
	t := time.NewTimer(pulse)
	defer t.Stop()
	for {
		every := tick
		if g.busy.Load() {
			every = pulse
		}
		due := time.Now().Add(every)
		t.Reset(every)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			shortest(&g.late, time.Since(due))
		}
	}
}

func (g *Gate) load(grant *tenant.Grant, t event.Tenancy) *load {
	key := gateKey{grant.Tenant, t == event.Production}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.tenants[key]
	if l == nil {
		l = &load{quota: grant.Quota.Events}
		if !key.production {
			l.quota = grant.Quota.Other
		}
		g.tenants[key] = l
	}
	return l
}

// Keep says which rollouts are under way. What their sessions send is shed as
// late as crashes are: a verdict is worth most while it is waited for.
func (g *Gate) Keep(rollouts []Live) {
	by := map[string][]Live{}
	for _, l := range rollouts {
		by[l.Tenant] = append(by[l.Tenant], l)
	}
	g.live.Store(&by)
}

// Enrolled reports whether a beacon's session takes part in a rollout that is
// under way.
func (g *Gate) Enrolled(grant *tenant.Grant, b *event.Beacon) bool {
	by := g.live.Load()
	if by == nil || b.Tenancy != event.Production {
		return false
	}
	for i := range (*by)[grant.Tenant.String()] {
		l := &(*by)[grant.Tenant.String()][i]
		if l.App != b.App {
			continue
		}
		if r := string(b.Release); r == l.Canary || r == l.Baseline {
			return true
		}
		for k := range b.Arms {
			if b.Arms[k].Change == l.Change {
				return true
			}
		}
	}
	return false
}

// Shed takes out of b what cannot be afforded, and returns how many events.
// What is taken out stays as drop rows by class; what is kept of a class that
// is shed in part carries [event.ShareKey].
func (g *Gate) Shed(grant *tenant.Grant, b *event.Beacon) int {
	l := g.load(grant, b.Tenancy)
	l.offered.Add(int64(len(b.Events)))
	p := math.Float64frombits(l.pressure.Load())
	if p == 0 {
		l.taken.Add(int64(len(b.Events)))
		return 0
	}
	crash := math.Float64frombits(l.crash.Load())
	live := g.Enrolled(grant, b)
	h := sessionHash(b.Session)
	var shed [event.Classes]int64
	kept := b.Events[:0]
	for i := range b.Events {
		e := b.Events[i]
		c := event.ClassOf(event.Production, &e) // the tenancy has its own load
		share := keep(p, c)
		switch {
		case c == event.ClassCrash:
			share = keep(crash, c)
		case live && c > event.ClassCrash:
			share = keep(p, event.ClassCrash)
		}
		if h >= share {
			shed[c]++
			continue
		}
		if share < 1 && len(e.Attrs) < event.MaxAttrs {
			e.Attrs = append(e.Attrs[:len(e.Attrs):len(e.Attrs)], event.Attr{Key: event.ShareKey, Num: true, Number: share})
		}
		kept = append(kept, e)
	}
	clear(b.Events[len(kept):])
	b.Events = kept
	l.taken.Add(int64(len(kept)))
	total := 0
	for c, n := range shed {
		if n == 0 {
			continue
		}
		total += int(n)
		b.Drops = append(b.Drops, event.Dropped{Cause: event.ShedCause + event.Class(c).String(), Count: n})
		metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_shed_events_total{tenant=%q,class=%q,tenancy=%q}`, grant.Tenant.String(), event.Class(c).String(), b.Tenancy.String())).AddInt64(n)
	}
	return total
}

// keep returns the share of a class that is kept under a pressure: the lowest
// class goes first and whole before the next one goes. Accounting stays.
func keep(pressure float64, c event.Class) float64 {
	above := float64(event.Classes-1) - float64(c) // classes that go before this one
	return 1 - min(max(pressure-above, 0), 1)
}

// sessionHash maps a session to [0, 1), the same for all of its beacons.
func sessionHash(session string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(session)) // a hash takes whatever it is given
	x := h.Sum64()
	x ^= x >> 33 // FNV leaves the high bits of short texts alike
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// Advice tells a tenant's clients what to hold, as the header Serin-Classes
// spells it, such as "resource;stop, error;wait=30"; empty where nothing is
// shed. live says that the client's session takes part in a rollout, of whose
// events none is held before all are.
func (g *Gate) Advice(grant *tenant.Grant, t event.Tenancy, live bool) string {
	l := g.load(grant, t)
	p := math.Float64frombits(l.pressure.Load())
	if p == 0 {
		return ""
	}
	crash := math.Float64frombits(l.crash.Load())
	var parts []string
	for c := event.Classes - 1; c > event.ClassAccounting; c-- {
		share := keep(p, c)
		switch {
		case c == event.ClassCrash:
			share = keep(crash, c)
		case live:
			share = keep(p, event.ClassCrash)
		}
		switch {
		case share == 0:
			parts = append(parts, c.String()+";stop")
		case share < 1:
			parts = append(parts, c.String()+";wait=30")
		}
	}
	return strings.Join(parts, ", ")
}

// Refuse reports for how long a request with a key is to be held back by its
// client, because its tenant sends so much beyond its quota that it is not even
// read; 0: it is read. Which request is refused depends on how many came before
// and on nothing in it, so that all cohorts are refused alike, and clients send
// the same bytes again, so that nothing is lost that would not be shed. The time
// is spread, so that they do not come back all at once.
func (g *Gate) Refuse(grant *tenant.Grant) time.Duration {
	if grant.Quota == (tenant.Quota{}) {
		return 0
	}
	own, _ := event.ParseTenancy(grant.Tenancy) // checked where the grant was made
	l := g.load(grant, own)
	share := math.Float64frombits(l.refused.Load())
	if share == 0 {
		return 0
	}
	// Multiples of the golden ratio, modulo 1: evenly spread over any stretch
	// of requests, and over every n-th of them.
	u := float64(l.asked.Add(1)*0x9e3779b97f4a7c15>>11) / (1 << 53)
	if u >= share {
		return 0
	}
	return time.Second + time.Duration(u/share*float64(9*time.Second))
}

// Run moves the pressures until ctx ends.
func (g *Gate) Run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { g.feel(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			g.step()
		}
	}
}

// step is one tick of the controller.
func (g *Gate) step() {
	slow := g.delay.Swap(0) > int64(g.target)
	slow = g.late.Swap(0) > int64(g.target) || slow
	for _, short := range g.shorts {
		slow = short() || slow
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.short++
	if !slow {
		g.short = 0
	}
	short := g.short >= shortTicks
	var greediest *load
	most, sent := 0., 0.
	for key, l := range g.tenants {
		offered, taken := float64(l.offered.Swap(0)), float64(l.taken.Swap(0))
		// What was refused unread would have been as much as what was read.
		refused := math.Float64frombits(l.refused.Load())
		perSecond := offered / tick.Seconds() / (1 - refused)
		l.rate += 0.3 * (perSecond - l.rate)
		sent += offered
		if offered == 0 {
			if l.idle++; l.idle > idleTicks {
				delete(g.tenants, key)
				continue
			}
		} else {
			l.idle = 0
		}
		if l.quota > 0 {
			// What is over after shedding raises the pressure in proportion.
			over := taken/tick.Seconds()/l.quota - 1
			l.refused.Store(math.Float64bits(min(max(1-max(refuseAt*l.quota, refuseFrom)/l.rate, 0), maxRefused)))
			l.quotaP = min(max(l.quotaP+quotaGain*min(max(over, -0.1), 1), 0), maxPressure)
		}
		if taken > most && l.sharedP < maxPressure {
			greediest, most = l, taken
		}
		if !short {
			l.sharedP = max(l.sharedP-stepDown, 0)
		}
	}
	g.busy.Store(sent > 0)
	if short && greediest != nil {
		greediest.sharedP = min(greediest.sharedP+stepUp, maxPressure)
	}
	for _, l := range g.tenants {
		l.pressure.Store(math.Float64bits(max(l.quotaP, l.sharedP)))
		l.crash.Store(math.Float64bits(max(l.quotaP, min(l.sharedP, maxShared))))
	}
}
