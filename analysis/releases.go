package analysis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// The states of a release: that it is somewhere and that people get it are two
// facts, told by those who make them so.
const (
	ReleaseDeployed  = "deployed"  // it is where it could be given out, and nobody should have it
	ReleaseReleased  = "released"  // people get it
	ReleaseWithdrawn = "withdrawn" // no longer
)

// releaseSteps are the states that may follow each; the empty one is that of a
// release that nobody told of.
var releaseSteps = map[string][]string{
	"":               {ReleaseDeployed},
	ReleaseDeployed:  {ReleaseReleased, ReleaseWithdrawn},
	ReleaseReleased:  {ReleaseDeployed, ReleaseWithdrawn},
	ReleaseWithdrawn: {ReleaseDeployed},
}

// ErrRelease says that a release cannot come to a state from the one that it is in.
var ErrRelease = errors.New("no such step")

// Release is one version of an app, and how it stands.
type Release struct {
	App     string    `json:"app"`
	Release string    `json:"release"`
	State   string    `json:"state"`
	Who     string    `json:"who"`
	Since   time.Time `json:"since"`
	// Leaked are the production sessions that had the release while it was
	// deployed and neither released nor the canary of a rollout under way.
	Leaked    int64      `json:"leaked_sessions,omitempty"`
	FirstLeak *time.Time `json:"first_leak,omitempty"` // receive time of its first beacon
}

// maxReleases bounds the releases that are kept of a tenant; the withdrawn ones
// that are longest so go first.
const maxReleases = 1000

// SetRelease records what became of a release. It answers [ErrRelease] where
// that cannot follow, and [canary.ErrInvalid].
func (e *Engine) SetRelease(ctx context.Context, id tenant.ID, who, appName, release, state string) (Release, error) {
	if appName == "" || len(appName) > event.MaxName || release == "" || len(release) > event.MaxName {
		return Release{}, fmt.Errorf("%w: app %q, release %q: want 1 to %d bytes each", canary.ErrInvalid, appName, release, event.MaxName)
	}
	if _, ok := releaseSteps[state]; !ok || state == "" {
		return Release{}, fmt.Errorf("%w: state: %q: want %s, %s or %s", canary.ErrInvalid, state, ReleaseDeployed, ReleaseReleased, ReleaseWithdrawn)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.settled(); err != nil {
		return Release{}, fmt.Errorf("release %s of %s: %w", release, appName, err)
	}
	now := e.fold.Releases[id.String()][releaseKey{appName, release}]
	if !slices.Contains(releaseSteps[now.State], state) {
		from := cmp.Or(now.State, "unknown")
		return Release{}, fmt.Errorf("release %s of %s is %s: %w: want one of %v", release, appName, from, ErrRelease, releaseSteps[now.State])
	}
	at := time.UnixMilli(e.o.Now().UnixMilli()).UTC()
	next := Release{App: appName, Release: release, State: state, Who: who, Since: at}
	if err := e.command(ctx, Record{Type: TypeRelease, Tenant: id.String(), ID: appName + "/" + release, Release: &next}); err != nil {
		return Release{}, err
	}
	return e.fold.Releases[id.String()][releaseKey{appName, release}], nil
}

// Releases returns a tenant's releases, by app, newest state first.
func (e *Engine) Releases(id tenant.ID) []Release {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []Release{}
	for _, r := range e.fold.Releases[id.String()] {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Release) int {
		return cmp.Or(cmp.Compare(a.App, b.App), b.Since.Compare(a.Since), cmp.Compare(a.Release, b.Release))
	})
	return all
}

// releaseKey names a release within a tenant.
type releaseKey struct{ App, Release string }

// setRelease applies a record of a release.
func (f *fold) setRelease(r Record) {
	of := f.Releases[r.Tenant]
	if of == nil {
		of = map[releaseKey]Release{}
		f.Releases[r.Tenant] = of
	}
	k := releaseKey{r.Release.App, r.Release.Release}
	next := *r.Release
	next.Leaked, next.FirstLeak = of[k].Leaked, of[k].FirstLeak // what leaked stays told
	of[k] = next
	if len(of) <= maxReleases {
		return
	}
	var oldest releaseKey
	for k, one := range of {
		if o, ok := of[oldest]; one.State == ReleaseWithdrawn && (!ok || one.Since.Before(o.Since) || one.Since.Equal(o.Since) && k.App+k.Release < oldest.App+oldest.Release) {
			oldest = k
		}
	}
	delete(of, oldest)
}

// leak counts a session that begins with a release which nobody should have, and
// reports whether it is the first one.
func (f *fold) leak(tenantName, appName, release string, received int64, tests []*canary.Test) bool {
	of := f.Releases[tenantName]
	k := releaseKey{appName, release}
	r, ok := of[k]
	if !ok || r.State != ReleaseDeployed {
		return false
	}
	for _, t := range tests {
		if t.Rollout.Canary == release && !t.Shadow() {
			return false // a rollout gives it out
		}
	}
	first := r.Leaked == 0
	r.Leaked++
	if first {
		at := time.UnixMilli(received).UTC()
		r.FirstLeak = &at
	}
	of[k] = r
	return first
}
