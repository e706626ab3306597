package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"serin.dev/serin/alerting/actuate"
	"serin.dev/serin/alerting/protection"
	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// protectionConfig is a deployment protection rule of GitHub (docs/delivery/github.md).
type protectionConfig struct {
	Name         string         `yaml:"name"`
	Repository   string         `yaml:"repository"`
	App          string         `yaml:"app"`      // the GitHub App's id
	KeyFile      string         `yaml:"key_file"` // its private key, in PEM
	Secret       string         `yaml:"secret,omitempty"`
	Secrets      []string       `yaml:"secrets,omitempty"` // several while one is rotated
	Rollout      string         `yaml:"rollout"`           // its id, with {ref}, {version}, {sha}
	Environments map[string]int `yaml:"environments"`      // the stage that must be promoted before each
	URL          string         `yaml:"url,omitempty"`     // of the API of a server of one's own
}

// rule returns the rule, or all that is wrong with it.
func (c *protectionConfig) rule(tenantName string) (protection.Rule, error) {
	r := protection.Rule{Tenant: tenantName, Name: c.Name, Rollout: c.Rollout, Environments: c.Environments, Secrets: c.Secrets}
	if c.Secret != "" {
		r.Secrets = append([]string{c.Secret}, r.Secrets...)
	}
	var faults []error
	if c.Name == "" || strings.ContainsAny(c.Name, "/?#") {
		faults = append(faults, fmt.Errorf("name: %q: want a name without / ? #, which stands in a path", c.Name))
	}
	if len(r.Secrets) == 0 {
		faults = append(faults, errors.New("secret: absent: want that of the App's webhook"))
	}
	for i, s := range r.Secrets {
		if len(s) < 16 {
			faults = append(faults, fmt.Errorf("secret[%d]: %d bytes: want 16 or more", i, len(s)))
		}
	}
	if c.Rollout == "" {
		faults = append(faults, errors.New("rollout: absent: want the id of a rollout, with {ref}, {version} or {sha}"))
	}
	if len(c.Environments) == 0 {
		faults = append(faults, errors.New("environments: none: want the stage that must be promoted before each"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Environments)) {
		if stage := c.Environments[name]; stage < 0 || stage > 31 {
			faults = append(faults, fmt.Errorf("environments.%s: %d: want the number of a stage, 0 to 31", name, stage))
		}
	}
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return r, errors.Join(append(faults, fmt.Errorf("key_file: %w", err))...)
	}
	r.App, err = actuate.NewApp(actuate.Settings{Repository: c.Repository, Issuer: c.App, Key: key, URL: c.URL})
	return r, errors.Join(append(faults, unjoin(err)...)...)
}

// protections returns the rules of all tenants; it reports all faults together.
func (c *config) protections() ([]protection.Rule, error) {
	var rules []protection.Rule
	var faults []error
	for i, t := range c.Tenants {
		names := map[string]bool{}
		for j := range t.Protections {
			where := fmt.Sprintf("tenants[%d].protections[%d]", i, j)
			r, err := t.Protections[j].rule(t.ID)
			for _, fault := range unjoin(err) {
				faults = append(faults, fmt.Errorf("%s.%w", where, fault))
			}
			if err := webhook.CheckURL(t.Protections[j].URL, c.WebhookAllow); err != nil {
				faults = append(faults, fmt.Errorf("%s.url: %w", where, err))
			}
			if names[r.Name] {
				faults = append(faults, fmt.Errorf("%s.name: %q: want a name that no other one of the tenant has", where, r.Name))
			}
			names[r.Name] = true
			rules = append(rules, r)
		}
	}
	return rules, errors.Join(faults...)
}

// openProtection reads what waited for a review when the server ended.
func (s *server) openProtection(logger *slog.Logger) (*protection.Book, error) {
	rules, err := s.c.protections()
	if err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	path := s.c.path("protection.json")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what waits for GitHub: %w", err)
	}
	b, err := protection.New(protection.Options{Rules: rules, Standing: s.standing, Do: webhook.NewClient(s.c.WebhookAllow), Logger: logger,
		Save: func(data []byte) error { return segment.WriteFile(path, data) }}, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// standing returns how a rollout's answer stands, and moves nothing.
func (s *server) standing(ctx context.Context, tenantName, rollout string) verdict.Standing {
	e := s.engine.Load()
	id, err := tenant.Stored(tenantName)
	if e == nil || err != nil || !e.Ready() {
		return verdict.Standing{State: verdict.StateUnavailable, Why: "the analysis is starting"}
	}
	standing, err := e.Gate(ctx, id, rollout, nil)
	if err != nil {
		return verdict.Standing{State: verdict.StateUnavailable, Why: "the analysis has no answer"}
	}
	return standing
}

// verdicts returns a channel that is closed at the next verdict; never while the
// analysis is down.
func (s *server) verdicts() <-chan struct{} {
	if e := s.engine.Load(); e != nil {
		return e.Changed()
	}
	return nil
}
