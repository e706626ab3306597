package admit

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// Other stands for a text that is one too many.
const Other = "other"

// field is what is bounded by itself.
type field int

const (
	fieldApp field = iota
	fieldRelease
	fieldArm
	fieldPage
	fieldName
	fieldContext
	fieldAttrKey
	fieldAttrValue
	fieldCount
)

var fieldNames = [fieldCount]string{"app", "release", "arm", "page", "name", "context", "attr_key", "attr_value"}

// contextFields are the texts of a context that have a set each, the page
// aside; the SDK and units are among them.
const (
	contextUnit = iota
	contextSDK
	contextPlatform
	contextOS
	contextBrowser
	contextDevice
	contextNetwork
	contextEnv
	contextCount
)

// keptNames are names, by kind, and keptKeys are keys of attributes that
// verdicts read: junk must not crowd them out.
var (
	keptNames = map[event.Kind][]string{
		event.Vital:   {"LCP", "INP", "CLS", "FCP", "TTFB", "FID"},
		event.Session: {"start", "end", "boot", "init"},
		event.Drop: {event.ShedCause + event.ClassCrash.String(), event.ShedCause + event.ClassVital.String(),
			event.ShedCause + event.ClassError.String(), event.ShedCause + event.ClassResource.String()},
		event.Event: {event.NameLog},
	}
	keptKeys = []string{"arm", "handled", "failed", "status", "slow", "rating", "navigation", "id", "host", event.ShareKey}
)

// Live is a rollout that is under way: what it names is kept whatever the
// limits, since a verdict hangs on it.
type Live struct {
	Tenant           string
	App              string
	Change           string
	Canary, Baseline string // releases, or variants of the change
}

// Cardinality bounds how many distinct texts of a tenant become values of
// columns, and so keys of cells: at most so many are known in a window, and
// what is one too many becomes [Other]. What is in use stays known; nothing
// that somebody else brings can replace it. Messages, stacks, sessions, users,
// ids and numbers are not bounded: no cell has them in its key. It is safe for
// concurrent use.
type Cardinality struct {
	seed    maphash.Seed
	tenants sync.Map // of *vocabulary by tenant.ID
	mu      sync.Mutex
	live    map[string][]Live // by tenant
}

// NewCardinality returns one that knows nothing yet.
func NewCardinality() *Cardinality {
	return &Cardinality{seed: maphash.MakeSeed(), live: map[string][]Live{}}
}

// vocabulary is what is known of one tenant.
type vocabulary struct {
	limits  tenant.Limits
	window  atomic.Int64 // number of the window that it is in
	mark    atomic.Uint64
	turning sync.Mutex
	apps    *known
	release *known
	arms    *known
	pages   *known
	names   []*known // by kind
	context [contextCount]*known
	attrs   *known // keys, and to each its values
	over    [fieldCount]*metrics.Counter
}

func (c *Cardinality) of(g *tenant.Grant) *vocabulary {
	if v, ok := c.tenants.Load(g.Tenant); ok {
		return v.(*vocabulary)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.tenants.Load(g.Tenant); ok {
		return v.(*vocabulary)
	}
	l := g.Limits
	v := &vocabulary{limits: l, apps: newKnown(l.Apps), release: newKnown(l.Releases), arms: newKnown(l.Arms), pages: newKnown(l.Pages), attrs: newKnown(l.AttrKeys)}
	v.attrs.table.Store(&table{slots: make([]atomic.Uint64, 16), more: make([]*known, 16)})
	v.mark.Store(1)
	for range len(event.Kinds()) + 1 {
		v.names = append(v.names, newKnown(l.Names))
	}
	for i := range v.context {
		v.context[i] = newKnown(l.Context)
	}
	for f, name := range fieldNames {
		v.over[f] = metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_overflow_values_total{tenant=%q,field=%q}`, g.Tenant.String(), name))
	}
	for kind, names := range keptNames {
		for _, n := range names {
			v.names[kind].pin(c.hash(n), 1, nil)
		}
	}
	for _, key := range keptKeys {
		v.attrs.pin(c.hash(key), 1, v.newValues(key))
	}
	for _, l := range c.live[g.Tenant.String()] {
		c.pin(v, l, true)
	}
	c.tenants.Store(g.Tenant, v)
	return v
}

func (c *Cardinality) hash(s string) uint64 { return maphash.String(c.seed, s) }

func (c *Cardinality) hash2(a, b string) uint64 {
	return bits.RotateLeft64(c.hash(a), 23) ^ c.hash(b)
}

// unbounded stands for the values of a key that are not bounded.
var unbounded = newKnown(1)

// newValues returns how to make the set of a key's values.
func (v *vocabulary) newValues(key string) func() *known {
	return func() *known {
		if identifies(key) {
			return unbounded
		}
		return newKnown(v.limits.AttrValues)
	}
}

// Keep makes known what rollouts name that are under way, beyond the limits if
// need be; it replaces what an earlier call said.
func (c *Cardinality) Keep(rollouts []Live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	live := map[string][]Live{}
	for _, l := range rollouts {
		live[l.Tenant] = append(live[l.Tenant], l)
	}
	c.tenants.Range(func(id, v any) bool {
		name := id.(tenant.ID).String()
		for _, l := range c.live[name] {
			if !slices.Contains(live[name], l) {
				c.pin(v.(*vocabulary), l, false)
			}
		}
		for _, l := range live[name] { // all of them: one that ended may have shared its app
			c.pin(v.(*vocabulary), l, true)
		}
		return true
	})
	c.live = live
}

// pin pins what a rollout names, or ends that.
func (c *Cardinality) pin(v *vocabulary, l Live, on bool) {
	mark := v.mark.Load()
	set := func(k *known, h uint64) {
		if on {
			k.pin(h, mark, nil)
		} else {
			k.unpin(h, mark)
		}
	}
	set(v.apps, c.hash(l.App))
	set(v.names[event.Exposure], c.hash(l.Change))
	variants, _ := v.attrs.find(c.hash("arm"), mark)
	for _, arm := range []string{l.Canary, l.Baseline, "canary", "baseline"} {
		set(v.release, c.hash(arm))
		set(v.arms, c.hash2(l.Change, arm))
		set(variants, c.hash(arm))
	}
}

// Bound puts [Other] in the place of each text of b that is one too many for
// its tenant, and counts them. m may be nil; now is Unix ms.
func (c *Cardinality) Bound(g *tenant.Grant, from *Client, m *Memo, b *event.Beacon, now int64) {
	v := c.of(g)
	t := turn{c: c, v: v, mark: v.turn(now), from: from, memo: m}
	if g.App == "" {
		t.text(v.apps, fieldApp, &b.App)
	}
	t.text(v.release, fieldRelease, (*string)(&b.Release))
	over := false
	for i := range b.Arms {
		a := &b.Arms[i]
		if h := c.hash2(a.Change, a.Variant); !t.has(v.arms, h) && !t.brings(v.arms, fieldArm, h) {
			*a, over = event.Arm{Change: Other, Variant: Other}, true
		}
	}
	if over {
		b.Arms = onlyOne(b.Arms, func(a *event.Arm) bool { return a.Change == Other })
	}
	x := &b.Ctx
	t.text(v.pages, fieldPage, &x.Page)
	for i, s := range [contextCount]*string{contextSDK: &b.SDK, contextPlatform: &x.Platform, contextOS: &x.OS, contextBrowser: &x.Browser,
		contextDevice: &x.Device, contextNetwork: &x.Network, contextEnv: &x.Env} {
		if s != nil {
			t.text(v.context[i], fieldContext, s)
		}
	}
	for i := range b.Events {
		e := &b.Events[i]
		if e.Kind != event.Vital || !measured(e.Name) {
			t.text(v.names[e.Kind], fieldName, &e.Name)
		}
		t.text(v.context[contextUnit], fieldContext, &e.Unit)
		t.attrs(e)
	}
	for i := range b.Drops {
		t.text(v.names[event.Drop], fieldName, &b.Drops[i].Cause)
	}
}

// measured reports whether a name is that of a vital that is always kept, which
// most events are.
func measured(name string) bool {
	switch name {
	case "LCP", "INP", "CLS", "FCP", "TTFB":
		return true
	}
	return false
}

// turn is one beacon's turn.
type turn struct {
	c    *Cardinality
	v    *vocabulary
	mark uint64
	from *Client
	memo *Memo
}

func (t *turn) has(k *known, h uint64) bool {
	_, ok := k.find(h, t.mark)
	return ok
}

// brings reports whether there is room for a text that is new.
func (t *turn) brings(k *known, f field, h uint64) bool {
	if _, ok := k.add(h, t.mark, int(t.c.hash(t.from.Prefix)%networks), nil); ok {
		return true
	}
	t.v.over[f].Inc()
	return false
}

func (t *turn) text(k *known, f field, s *string) {
	if *s == "" {
		return
	}
	e := t.memo.at(*s, k)
	if e.holds(*s, k, t.mark) {
		return
	}
	if h := t.c.hash(*s); !t.has(k, h) && !t.brings(k, f, h) {
		*s = Other
		return
	}
	e.note(*s, k, nil, t.mark)
}

func (t *turn) attrs(e *event.One) {
	over := false
	for i := range e.Attrs {
		a := &e.Attrs[i]
		values := t.key(a.Key)
		if values == nil {
			*a, over = event.Attr{Key: Other, Text: Other}, true
			continue
		}
		if values != unbounded && !a.Num && a.Text != "true" && a.Text != "false" {
			t.text(values, fieldAttrValue, &a.Text)
		}
	}
	if over {
		e.Attrs = onlyOne(e.Attrs, func(a *event.Attr) bool { return a.Key == Other })
	}
}

// key returns the set of a key's values, or nil where the key is one too many.
func (t *turn) key(key string) *known {
	e := t.memo.at(key, t.v.attrs)
	if e.holds(key, t.v.attrs, t.mark) {
		return e.more
	}
	h := t.c.hash(key)
	values, ok := t.v.attrs.find(h, t.mark)
	if !ok {
		if values, ok = t.v.attrs.add(h, t.mark, int(t.c.hash(t.from.Prefix)%networks), t.v.newValues(key)); !ok {
			t.v.over[fieldAttrKey].Inc()
			return nil
		}
	}
	e.note(key, t.v.attrs, values, t.mark)
	return values
}

// identifies reports whether a key is an id's by the looks of its name: ids are
// different by nature, and nobody divides by them.
func identifies(key string) bool {
	rest, ok := strings.CutSuffix(key, "id")
	if !ok {
		return strings.HasSuffix(key, "Id") || strings.HasSuffix(key, "ID")
	}
	return rest == "" || strings.IndexByte("._-", rest[len(rest)-1]) >= 0
}

// onlyOne takes out all but the first of those that are alike.
func onlyOne[T any](list []T, alike func(*T) bool) []T {
	seen := false
	return slices.DeleteFunc(list, func(one T) bool {
		was := seen
		like := alike(&one)
		seen = seen || like
		return like && was
	})
}

// turn returns the mark of the window that now is in, and begins it where it
// has not begun.
func (v *vocabulary) turn(now int64) uint64 {
	window := now / v.limits.Window.Milliseconds()
	if v.window.Load() >= window {
		return v.mark.Load()
	}
	v.turning.Lock()
	defer v.turning.Unlock()
	was := v.window.Load()
	if was >= window {
		return v.mark.Load()
	}
	last := v.mark.Load()
	next := last%markMask + 1
	// New marks come first: what is used while the old ones are sorted out is
	// in use in the new window.
	v.mark.Store(next)
	v.window.Store(window)
	if was == 0 {
		return next // the first beacon: nothing to forget
	}
	if window > was+1 {
		last = next // nothing was in use in the last window
	}
	for _, k := range slices.Concat([]*known{v.apps, v.release, v.arms, v.pages, v.attrs}, v.names, v.context[:]) {
		k.rotate(last, next)
	}
	return next
}
