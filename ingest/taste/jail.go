package taste

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// The bounds of the quarantine.
const (
	maxEntries = 64
	maxHeld    = 8 << 20 // bytes of bodies
	maxNames   = 4096    // fingerprints that are refused at once
	// spread is from how many networks bodies of one form kill tasters until the
	// form is refused to all. Keys are public: were it one, anybody could have a
	// tenant's own form refused.
	spread = 3
)

// Entry is one quarantined body.
type Entry struct {
	ID          int64     `json:"id"`
	Fingerprint string    `json:"fingerprint"` // 16 hex digits
	Tenant      string    `json:"tenant"`
	Key         string    `json:"key"`
	Network     string    `json:"network"` // that sent it, as events have it; empty where it is not known
	Protocol    string    `json:"protocol"`
	Cause       string    `json:"cause"` // of the taster's death: timeout, fatal, exit, signal
	At          time.Time `json:"at"`
	Until       time.Time `json:"until"` // when bodies of its form are tasted again
	Size        int       `json:"size"`  // bytes of the body
	Body        []byte    `json:"-"`
}

// jail holds the fingerprints that are refused and the bodies that earned it.
type jail struct {
	length time.Duration
	now    func() time.Time

	mu    sync.Mutex
	until map[uint64]term
	ring  []Entry
	held  int
	next  int64
	keys  map[string]int // quarantined fingerprints of a key
}

func newJail(length time.Duration, now func() time.Time) *jail {
	return &jail{length: length, now: now, until: map[uint64]term{}, keys: map[string]int{}}
}

// term is how long a fingerprint is refused, whose it is, and to whom: to these
// networks, and to all where they are as many as spread.
type term struct {
	until    time.Time
	tenant   string
	key      string
	networks []string
}

// forget lets a fingerprint go. The caller holds mu.
func (j *jail) forget(fp uint64) {
	key := j.until[fp].key
	delete(j.until, fp)
	if j.keys[key]--; j.keys[key] <= 0 {
		delete(j.keys, key)
	}
}

// check refuses what is quarantined. A body's form is looked at only where its key
// has one in the jail.
func (j *jail) check(s *Sample) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.keys[s.Key] == 0 {
		return nil
	}
	fp := Fingerprint(s.Protocol, s.Key, s.Body)
	t, ok := j.until[fp]
	if !ok {
		return nil
	}
	if !j.now().Before(t.until) {
		j.forget(fp)
		return nil
	}
	if len(t.networks) < spread && !slices.Contains(t.networks, s.Network) {
		return nil
	}
	return ErrQuarantined
}

func (j *jail) put(s *Sample, cause string) {
	fp := Fingerprint(s.Protocol, s.Key, s.Body)
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	oldest := fp
	for f, t := range j.until { // rare enough to walk
		switch {
		case !now.Before(t.until):
			j.forget(f)
		case oldest == fp || t.until.Before(j.until[oldest].until):
			oldest = f
		}
	}
	t, ok := j.until[fp]
	if !ok {
		if len(j.until) >= maxNames {
			j.forget(oldest)
		}
		t.tenant, t.key = s.Tenant, s.Key
		j.keys[s.Key]++
	}
	t.until = now.Add(j.length)
	if len(t.networks) < spread && !slices.Contains(t.networks, s.Network) {
		t.networks = append(t.networks, s.Network)
	}
	j.until[fp] = t
	j.next++
	j.ring = append(j.ring, Entry{ID: j.next, Fingerprint: fmt.Sprintf("%016x", fp), Tenant: s.Tenant, Key: s.Key, Network: s.Network, Protocol: s.Protocol, Cause: cause,
		At: now, Until: now.Add(j.length), Size: len(s.Body), Body: slices.Clone(s.Body)})
	j.held += len(s.Body)
	for len(j.ring) > maxEntries || j.held > maxHeld && len(j.ring) > 1 {
		j.held -= len(j.ring[0].Body)
		j.ring = slices.Delete(j.ring, 0, 1)
	}
}

// Quarantined returns a tenant's quarantined bodies, the newest first.
func (p *Pool) Quarantined(tenant string) []Entry {
	j := p.jail
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Entry
	for _, e := range slices.Backward(j.ring) {
		if e.Tenant == tenant {
			out = append(out, e)
		}
	}
	return out
}

// Release forgets a tenant's quarantined fingerprint and its bodies, so that
// its form is tasted again; false where there is none.
func (p *Pool) Release(tenant, fingerprint string) bool {
	j := p.jail
	j.mu.Lock()
	defer j.mu.Unlock()
	found := false
	j.ring = slices.DeleteFunc(j.ring, func(e Entry) bool {
		if e.Tenant != tenant || e.Fingerprint != fingerprint {
			return false
		}
		found = true
		j.held -= len(e.Body)
		return true
	})
	for fp, t := range j.until { // which may have outlasted its bodies
		if t.tenant == tenant && fmt.Sprintf("%016x", fp) == fingerprint {
			found = true
			j.forget(fp)
		}
	}
	return found
}
