// Package actuate tells verdicts to tools by their own APIs: GitHub, GitLab,
// LaunchDarkly, Google Play, the App Store. Each tool is a small set of
// requests that may be repeated: what is so already is left so. docs/delivery
// has a page for each.
package actuate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis/verdict"
)

// Settings say which tool is told, and where. Each kind uses some of them.
type Settings struct {
	Kind        string // one of [Kinds]
	URL         string // of the API; empty: the tool's own
	Token       string // secret; of GitHub, GitLab, LaunchDarkly
	Repository  string // GitHub: OWNER/NAME
	Project     string // GitLab: number or path; LaunchDarkly: key
	Environment string // GitHub: of the deployment; LaunchDarkly: key
	Report      string // GitHub: deployment (default), status or check; GitLab: flag (default) or status
	Ref         string // of a commit or deployment, in which {canary} stands for the canary's release; default {canary}
	Flag        string // GitLab, LaunchDarkly: that a rollback turns off
	Package     string // Google Play: the app's package; App Store: the app's number
	Track       string // Google Play: default production
	KeyID       string // App Store
	Issuer      string // App Store: issuer; Google Play: the service account's address
	Key         []byte // PEM, secret: App Store (EC P-256) and Google Play (RSA)
	TokenURL    string // Google Play: where access tokens are had; empty: Google's own
}

// Tool is told verdicts. It is a [webhook.Teller].
type Tool struct {
	s   Settings
	do  webhook.Client
	now func() time.Time
	act func(ctx context.Context, c *client, v *verdict.Verdict) error
}

// kinds are the tools, with what each needs.
var kinds = map[string]struct {
	api   string
	needs []string
	act   func(ctx context.Context, c *client, v *verdict.Verdict) error
}{
	"github":       {"https://api.github.com", []string{"repository", "token"}, github},
	"gitlab":       {"https://gitlab.com/api/v4", []string{"project", "token"}, gitlab},
	"launchdarkly": {"https://app.launchdarkly.com", []string{"project", "environment", "flag", "token"}, launchDarkly},
	"google_play":  {"https://androidpublisher.googleapis.com", []string{"package", "issuer", "key"}, googlePlay},
	"app_store":    {"https://api.appstoreconnect.apple.com", []string{"package", "issuer", "key_id", "key"}, appStore},
}

// Kinds returns the kinds of tools.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// New returns a tool that is reached through a client, which has bounds of
// addresses and time; its error has all that is wrong with the settings, and no
// secret. Tokens are issued by now, which may be nil: time.Now.
func New(s Settings, do webhook.Client, now func() time.Time) (*Tool, error) {
	if now == nil {
		now = time.Now
	}
	k, ok := kinds[s.Kind]
	if !ok {
		return nil, fmt.Errorf("kind: %q: want one of %v", s.Kind, Kinds())
	}
	var faults []error
	given := s.given()
	for _, name := range k.needs {
		if given[name] == "" {
			faults = append(faults, fmt.Errorf("%s: absent: %s needs it", name, s.Kind))
		}
	}
	if s.URL == "" {
		s.URL = k.api
	}
	s.URL = strings.TrimRight(s.URL, "/")
	if u, err := url.Parse(s.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		faults = append(faults, fmt.Errorf("url: %q: want https://HOST, without a user in it", s.URL))
	}
	reports := map[string][]string{"github": {"deployment", "status", "check"}, "gitlab": {"flag", "status"}}[s.Kind]
	switch {
	case s.Report == "" && reports != nil:
		s.Report = reports[0]
	case s.Report != "" && reports != nil && !slices.Contains(reports, s.Report):
		faults = append(faults, fmt.Errorf("report: %q: want one of %v", s.Report, reports))
	}
	if reports == nil || slices.Contains(reports, s.Report) {
		faults = append(faults, s.strays()...)
	}
	if s.Kind == "gitlab" && s.Report == "flag" && s.Flag == "" {
		faults = append(faults, errors.New("flag: absent: want the one that a rollback turns off, or report: status"))
	}
	if s.Kind == "github" && s.Repository != "" && strings.Count(s.Repository, "/") != 1 {
		faults = append(faults, fmt.Errorf("repository: %q: want OWNER/NAME", s.Repository))
	}
	if s.Ref == "" {
		s.Ref = "{canary}"
	}
	if s.Track == "" {
		s.Track = "production"
	}
	if s.TokenURL == "" {
		s.TokenURL = "https://oauth2.googleapis.com/token"
	}
	if len(s.Key) > 0 {
		if err := checkKey(s.Kind, s.Key); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Tool{s, do, now, k.act}, nil
}

// given returns the settings that only some tools have, by name.
func (s *Settings) given() map[string]string {
	return map[string]string{"repository": s.Repository, "project": s.Project, "environment": s.Environment, "report": s.Report, "ref": s.Ref, "flag": s.Flag,
		"package": s.Package, "track": s.Track, "issuer": s.Issuer, "key_id": s.KeyID, "token": s.Token, "key": string(s.Key)}
}

// users are the tools, with a report where it matters, that use a setting.
var users = map[string][]string{
	"repository": {"github"}, "project": {"gitlab", "launchdarkly"}, "environment": {"github deployment", "launchdarkly"}, "report": {"github", "gitlab"},
	"ref": {"github", "gitlab status"}, "flag": {"gitlab flag", "launchdarkly"}, "package": {"app_store", "google_play"}, "track": {"google_play"},
	"issuer": {"app_store", "google_play"}, "key_id": {"app_store"}, "token": {"github", "gitlab", "launchdarkly"}, "key": {"app_store", "google_play"},
}

// strays reports settings that the tool does not use: who writes a flag believes that
// it is turned off. The report is one of the tool's.
func (s *Settings) strays() (faults []error) {
	given := s.given()
	for _, name := range slices.Sorted(maps.Keys(users)) {
		who := users[name]
		if given[name] == "" || slices.Contains(who, s.Kind) || slices.Contains(who, s.Kind+" "+s.Report) {
			continue
		}
		is := s.Kind
		if slices.ContainsFunc(who, func(w string) bool { return strings.HasPrefix(w, s.Kind+" ") }) {
			is += " with report " + s.Report
		}
		want := strings.Join(who, ", ")
		for _, kind := range []string{"github", "gitlab"} {
			want = strings.ReplaceAll(want, kind+" ", kind+" with report ")
		}
		faults = append(faults, fmt.Errorf("%s: given for %s: want it for %s", name, is, want))
	}
	return faults
}

// URL is where the tool is.
func (t *Tool) URL() string { return t.s.URL }

// Tell implements [webhook.Teller] by the requests of the tool. It may be called
// again with the same message. A status that is not 2xx is a [*StatusError]: what
// a 410 would say of a webhook is not said of a tool.
func (t *Tool) Tell(ctx context.Context, m webhook.Message) (webhook.Answer, error) {
	err := t.act(ctx, &client{t.do, &t.s, t.now(), http.Header{}}, m.Verdict)
	var status *StatusError
	switch {
	case err == nil:
		return webhook.Answer{Status: http.StatusOK}, nil
	case errors.As(err, &status):
		return webhook.Answer{Status: status.Status, After: status.After}, err
	}
	return webhook.Answer{}, err
}

// StatusError is an answer that is none of success.
type StatusError struct {
	Status int
	What   string        // that was asked
	After  time.Duration // the wait that the tool asks for; 0: none
}

// Error says what was asked, and the status. What the tool answered is left out:
// it is not ours to keep.
func (e *StatusError) Error() string { return fmt.Sprintf("%s: status %d", e.What, e.Status) }

// client makes the requests of one telling.
type client struct {
	do     webhook.Client
	s      *Settings
	now    time.Time
	header http.Header
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// call makes one request with a JSON body, or none, and reads a JSON answer into
// out, which may be nil.
func (c *client) call(ctx context.Context, method, path string, body, out any) error {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.s.URL+path, reader)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header = c.header.Clone()
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "serin/1")
	return c.send(req, out)
}

func (c *client) send(req *http.Request, out any) error {
	what := req.Method + " " + req.URL.Path
	res, err := c.do.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", what, err)
	}
	if res.StatusCode/100 != 2 {
		return &StatusError{res.StatusCode, what, c.pause(res)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s: read the answer: %w", what, err)
	}
	return nil
}

// pause returns the wait that a tool asks for. GitHub says of its secondary limits how
// long they last, and of the primary one when it ends; who goes on asking is shut out
// for longer (https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api).
func (c *client) pause(res *http.Response) time.Duration {
	if after := webhook.RetryAfter(res.Header.Get("Retry-After"), c.now); after > 0 {
		return after
	}
	end, err := strconv.ParseInt(res.Header.Get("X-RateLimit-Reset"), 10, 64)
	if limited := res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusTooManyRequests; err != nil || !limited || res.Header.Get("X-RateLimit-Remaining") != "0" {
		return 0
	}
	return webhook.RetryAfter(strconv.FormatInt(end-c.now.Unix(), 10), c.now)
}

// ref returns the reference of the canary's commit or deployment.
func (c *client) ref(v *verdict.Verdict) string {
	return strings.ReplaceAll(c.s.Ref, "{canary}", v.Canary)
}

// clip cuts a text to so many bytes, at a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "..."
}
