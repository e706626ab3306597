// Package protection answers GitHub's custom deployment protection rules: a job that
// waits for an environment is let go on once the stage before it is promoted, and
// rejected where the rollout is rolled back. A hold of any kind, an outage among
// them, lets it wait; GitHub itself ends the wait after 30 days.
package protection

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/alerting/actuate"
	"serin.dev/serin/analysis/verdict"
)

// Rule is the rule of one repository.
type Rule struct {
	Tenant, Name string   // in the path to which GitHub sends
	Secrets      []string // of the webhook; several while one is rotated
	// Rollout is the id of the rollout that a deployment belongs to, in which {ref}
	// stands for the branch or tag, {version} for that without a v before a digit, and
	// {sha} for the commit.
	Rollout string
	// Environments has the stage that must be promoted before a job may use each.
	Environments map[string]int
	App          *actuate.App
}

// Options say what a book works on.
type Options struct {
	Rules []Rule
	// Standing returns how a rollout's answer stands.
	Standing func(ctx context.Context, tenant, rollout string) verdict.Standing
	Save     func(data []byte) error // keeps what waits, before it is answered
	// Do sends requests to GitHub, within its own bounds of addresses and time.
	Do interface {
		Do(*http.Request) (*http.Response, error)
	}
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Book holds the requests that wait for an answer.
type Book struct {
	o     Options
	mu    sync.Mutex
	waits []Wait
	wake  chan struct{}
}

// Wait is one request, as it is kept.
type Wait struct {
	Tenant       string    `json:"tenant"`
	Rule         string    `json:"rule"`
	Run          int64     `json:"run"`
	Environment  string    `json:"environment"`
	Installation int64     `json:"installation"`
	Rollout      string    `json:"rollout"`
	Since        time.Time `json:"since"`
	Tries        int       `json:"tries,omitempty"`
	Next         time.Time `json:"next,omitzero"` // not before
}

// The bounds of what waits and of one request.
const (
	maxWaits = 1000
	maxWait  = 30 * 24 * time.Hour // after which GitHub has ended it
	maxBody  = 1 << 20
	recheck  = 15 * time.Second // between looks where no verdict was told
	maxPause = 10 * time.Minute // between tries of an answer that GitHub did not take
)

// New returns a book with what data, which may be nil, says was waiting.
func New(o Options, data []byte) (*Book, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Book{o: o, wake: make(chan struct{}, 1)}
	if data == nil {
		return b, nil
	}
	if err := json.Unmarshal(data, &b.waits); err != nil {
		return nil, fmt.Errorf("read what waits: %w", err)
	}
	return b, nil
}

// Waiting returns what waits, oldest first.
func (b *Book) Waiting() []Wait {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.waits)
}

func (b *Book) rule(tenant, name string) *Rule {
	for i := range b.o.Rules {
		if r := &b.o.Rules[i]; r.Tenant == tenant && r.Name == name {
			return r
		}
	}
	return nil
}

// request is what is read of the event deployment_protection_rule.
type request struct {
	Action      string `json:"action"`
	Environment string `json:"environment"`
	Ref         string `json:"ref"`
	SHA         string `json:"sha"`
	Callback    string `json:"deployment_callback_url"`
	Deployment  struct {
		Ref string `json:"ref"`
		SHA string `json:"sha"`
	} `json:"deployment"`
	Repository struct {
		Name string `json:"full_name"`
	} `json:"repository"`
	Installation struct {
		ID int64 `json:"id"`
	} `json:"installation"`
}

// ServeHTTP takes GitHub's webhooks, at a path with the values tenant and name.
func (b *Book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rule := b.rule(r.PathValue("tenant"), r.PathValue("name"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, fmt.Sprintf("body: want at most %d bytes", maxBody), http.StatusRequestEntityTooLarge)
		return
	}
	// A rule that is not there answers as one whose secret is another.
	if rule == nil || !signed(rule.Secrets, r.Header.Get("X-Hub-Signature-256"), body) {
		http.Error(w, "X-Hub-Signature-256: want the signature of the body by the webhook's secret", http.StatusUnauthorized)
		return
	}
	if event := r.Header.Get("X-GitHub-Event"); event != "deployment_protection_rule" {
		fmt.Fprintf(w, "event %q: nothing to do\n", event) // such as the ping at the beginning
		return
	}
	wait, err := rule.read(body, b.o.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		b.o.Logger.Warn("a deployment cannot be reviewed", "tenant", rule.Tenant, "rule", rule.Name, "error", err)
		return
	}
	if err := b.add(wait); err != nil {
		http.Error(w, "it could not be kept; ask for it to be sent again", http.StatusServiceUnavailable)
		b.o.Logger.Error("a deployment's review could not be kept", "tenant", rule.Tenant, "rule", rule.Name, "error", err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "waits for rollout %s\n", wait.Rollout)
}

// signed reports whether one of the secrets made the signature, in the form
// sha256=HEX.
func signed(secrets []string, signature string, body []byte) bool {
	text, ok := strings.CutPrefix(signature, "sha256=")
	given, err := hex.DecodeString(text)
	if !ok || err != nil {
		return false
	}
	for _, s := range secrets {
		mac := hmac.New(sha256.New, []byte(s))
		mac.Write(body) // a hash.Hash never fails
		if hmac.Equal(mac.Sum(nil), given) {
			return true
		}
	}
	return false
}

func (rule *Rule) read(body []byte, now time.Time) (Wait, error) {
	var q request
	if err := json.Unmarshal(body, &q); err != nil {
		return Wait{}, fmt.Errorf("body: %w", err)
	}
	var faults []error
	if q.Action != "requested" {
		faults = append(faults, fmt.Errorf("action: %q: want requested", q.Action))
	}
	if !strings.EqualFold(q.Repository.Name, rule.App.Repository()) {
		faults = append(faults, fmt.Errorf("repository.full_name: %q: want %s", q.Repository.Name, rule.App.Repository()))
	}
	if _, ok := rule.Environments[q.Environment]; !ok {
		faults = append(faults, fmt.Errorf("environment: %q: want one of the rule's environments", q.Environment))
	}
	if q.Installation.ID <= 0 {
		faults = append(faults, fmt.Errorf("installation.id: %d: want that of the App's installation", q.Installation.ID))
	}
	ref, sha := q.Ref, q.SHA
	if ref == "" {
		ref, sha = q.Deployment.Ref, q.Deployment.SHA
	}
	if ref == "" {
		faults = append(faults, errors.New("ref: absent: want that of the deployment"))
	}
	// The number alone is taken of the URL: where it is sent to is ours to say.
	run := int64(0)
	if _, rest, ok := strings.Cut(q.Callback, "/actions/runs/"); ok {
		number, _, _ := strings.Cut(rest, "/")
		run, _ = strconv.ParseInt(number, 10, 64) // 0 is none
	}
	if run <= 0 {
		faults = append(faults, fmt.Errorf("deployment_callback_url: %q: want .../actions/runs/NUMBER/deployment_protection_rule", q.Callback))
	}
	return Wait{Tenant: rule.Tenant, Rule: rule.Name, Run: run, Environment: q.Environment, Installation: q.Installation.ID,
		Rollout: rule.rollout(ref, sha), Since: now.UTC().Truncate(time.Second)}, errors.Join(faults...)
}

func (rule *Rule) rollout(ref, sha string) string {
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
	version := ref
	if len(ref) > 1 && ref[0] == 'v' && ref[1] >= '0' && ref[1] <= '9' {
		version = ref[1:]
	}
	return strings.NewReplacer("{ref}", ref, "{version}", version, "{sha}", sha).Replace(rule.Rollout)
}

// add keeps a request durably; one that is there already is one.
func (b *Book) add(w Wait) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.waits
	b.waits = slices.DeleteFunc(slices.Clone(b.waits), func(o Wait) bool { return o.key() == w.key() })
	if len(b.waits) >= maxWaits {
		b.waits = was
		return fmt.Errorf("%d wait: want at most %d", len(was), maxWaits)
	}
	b.waits = append(b.waits, w)
	if err := b.save(); err != nil {
		b.waits = was
		return err
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

type waitKey struct {
	tenant, rule, environment string
	run                       int64
}

func (w *Wait) key() waitKey { return waitKey{w.Tenant, w.Rule, w.Environment, w.Run} }

// save keeps what waits. The caller holds mu.
func (b *Book) save() error {
	data, err := json.Marshal(b.waits)
	if err != nil {
		return fmt.Errorf("keep what waits: %w", err)
	}
	return b.o.Save(data)
}

// Run answers what waits until ctx ends. changed returns a channel that is closed at
// the next verdict.
func (b *Book) Run(ctx context.Context, changed func() <-chan struct{}) {
	for {
		next := changed()
		b.Look(ctx)
		timer := time.NewTimer(recheck)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-next:
		case <-b.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Look answers what can be answered now.
func (b *Book) Look(ctx context.Context) {
	for _, w := range b.Waiting() {
		if ctx.Err() != nil {
			return
		}
		now := b.o.Now()
		rule := b.rule(w.Tenant, w.Rule)
		switch {
		case rule == nil || now.Sub(w.Since) > maxWait:
			b.settle(w, true)
			continue
		case now.Before(w.Next):
			continue
		}
		s := b.o.Standing(ctx, w.Tenant, w.Rollout)
		approved, ok := answer(s, rule.Environments[w.Environment])
		if !ok {
			continue
		}
		err := rule.App.Review(ctx, b.o.Do, now, actuate.Review{Installation: w.Installation, Run: w.Run, Environment: w.Environment, Approved: approved, Comment: s.Sentence()})
		log := b.o.Logger.With("tenant", w.Tenant, "rule", w.Rule, "rollout", w.Rollout, "run", w.Run, "environment", w.Environment, "approved", approved)
		var status *actuate.StatusError
		switch {
		case err == nil:
			log.Info("a deployment is reviewed")
			b.settle(w, true)
		case errors.As(err, &status) && (status.Status == http.StatusNotFound || status.Status == http.StatusGone || status.Status == http.StatusUnprocessableEntity):
			log.Warn("a deployment waits for no review any more", "error", err)
			b.settle(w, true)
		default:
			w.Tries++
			pause := min(recheck<<min(w.Tries-1, 10), maxPause)
			if status != nil {
				pause = max(pause, status.After)
			}
			w.Next = now.Add(pause)
			log.Warn("a review was not taken, and is tried again", "error", err, "at", w.Next)
			b.settle(w, false)
		}
	}
}

// answer says what a standing lets a job do that needs a stage; ok is false where it
// waits.
func answer(s verdict.Standing, stage int) (approved, ok bool) {
	switch {
	case s.State == verdict.StateRollback:
		return false, true
	case s.Verdict == nil || s.State == verdict.StateUnknown || s.State == verdict.StateUnavailable:
		return false, false
	case s.Verdict.Stage > stage: // it was left by a promote
		return true, true
	}
	return true, s.State == verdict.StatePromote && s.Verdict.Stage == stage
}

// settle takes a request out of the book, or puts it back as it was tried. What cannot
// be kept is tried again after a restart, which changes nothing.
func (b *Book) settle(w Wait, done bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.waits, func(o Wait) bool { return o.key() == w.key() && o.Since.Equal(w.Since) })
	if i < 0 {
		return
	}
	if b.waits[i] = w; done {
		b.waits = slices.Delete(b.waits, i, i+1)
	}
	if err := b.save(); err != nil {
		b.o.Logger.Error("what waits for GitHub could not be kept", "error", err)
	}
}
