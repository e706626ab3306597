package actuate

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"serin.dev/serin/alerting/webhook"
)

// App is a GitHub App that reviews the deployments of one repository by a custom
// deployment protection rule
// (https://docs.github.com/en/actions/how-tos/deploy/configure-and-manage-deployments/create-custom-protection-rules).
type App struct{ s Settings }

// NewApp returns the App; of the settings it uses the repository, the issuer, which
// is the App's id, its key, and the API's URL. The error has all that is wrong.
func NewApp(s Settings) (*App, error) {
	var faults []error
	if strings.Count(s.Repository, "/") != 1 {
		faults = append(faults, fmt.Errorf("repository: %q: want OWNER/NAME", s.Repository))
	}
	if s.Issuer == "" {
		faults = append(faults, errors.New("issuer: absent: want the id of the GitHub App"))
	}
	if key, err := parseKey(s.Key); err != nil {
		faults = append(faults, err)
	} else if _, ok := key.(*rsa.PrivateKey); !ok {
		faults = append(faults, errors.New("key: want the RSA key of the GitHub App"))
	}
	if s.URL == "" {
		s.URL = kinds["github"].api
	}
	s.URL = strings.TrimRight(s.URL, "/")
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &App{s}, nil
}

// Repository is the one that the App reviews for.
func (a *App) Repository() string { return a.s.Repository }

// Review is one answer to a request of the rule.
type Review struct {
	Installation int64 // of the App, by which it gets a token
	Run          int64 // of the workflow
	Environment  string
	Approved     bool // else it is rejected
	Comment      string
}

// tokenLife is how long the App's own token is good, less than the ten minutes that
// GitHub allows; its beginning is set back for clocks that differ.
const tokenLife = 8 * time.Minute

// Review answers a request. It may be called again with the same one. A status that is
// not 2xx is a [*StatusError].
func (a *App) Review(ctx context.Context, do webhook.Client, now time.Time, r Review) error {
	jwt, err := signedJWT(a.s.Key, map[string]any{"alg": "RS256", "typ": "JWT"},
		map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(tokenLife).Unix(), "iss": a.s.Issuer})
	if err != nil {
		return err
	}
	c := &client{do, &a.s, now, http.Header{}}
	c.header.Set("Accept", "application/vnd.github+json")
	c.header.Set("X-GitHub-Api-Version", "2022-11-28")
	c.header.Set("Authorization", "Bearer "+jwt)
	var access struct {
		Token string `json:"token"`
	}
	if err := c.call(ctx, http.MethodPost, fmt.Sprintf("/app/installations/%d/access_tokens", r.Installation), nil, &access); err != nil {
		return err
	}
	c.header.Set("Authorization", "Bearer "+access.Token)
	state := "rejected"
	if r.Approved {
		state = "approved"
	}
	return c.call(ctx, http.MethodPost, fmt.Sprintf("/repos/%s/actions/runs/%d/deployment_protection_rule", a.s.Repository, r.Run),
		map[string]string{"environment_name": r.Environment, "state": state, "comment": clip(r.Comment, maxDescription)}, nil)
}
