package actuate

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// googlePlay halts the canary's release on a track at a rollback: new installs
// stop, who has it keeps it. All other releases of the track stay as they are, since
// an edit replaces the track (https://developers.google.com/android-publisher/api-ref/rest/v3/edits.tracks).
func googlePlay(ctx context.Context, c *client, v *verdict.Verdict) error {
	if v.Decision != verdict.Rollback {
		return nil
	}
	token, err := c.googleToken(ctx)
	if err != nil {
		return err
	}
	c.header.Set("Authorization", "Bearer "+token)
	app := "/androidpublisher/v3/applications/" + url.PathEscape(c.s.Package) + "/edits"
	var edit struct {
		ID string `json:"id"`
	}
	if err := c.call(ctx, http.MethodPost, app, map[string]any{}, &edit); err != nil {
		return err
	}
	at := app + "/" + url.PathEscape(edit.ID)
	var track map[string]any
	if err := c.call(ctx, http.MethodGet, at+"/tracks/"+url.PathEscape(c.s.Track), nil, &track); err != nil {
		return err
	}
	changed, err := halt(track, v.Canary)
	if err != nil || !changed {
		// An edit that is not committed expires by itself, so that this is no more than tidy.
		return errors.Join(err, c.call(ctx, http.MethodDelete, at, nil, nil))
	}
	if err := c.call(ctx, http.MethodPut, at+"/tracks/"+url.PathEscape(c.s.Track), track, nil); err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, at+":commit", map[string]any{}, nil)
}

// halt marks the release of a track that has a name or a version code as halted,
// and reports whether that changes anything.
func halt(track map[string]any, canary string) (changed bool, err error) {
	releases, _ := track["releases"].([]any)
	for _, one := range releases {
		r, _ := one.(map[string]any)
		codes, _ := r["versionCodes"].([]any)
		if r["name"] != canary && !slices.ContainsFunc(codes, func(code any) bool { return fmt.Sprint(code) == canary }) {
			continue
		}
		switch r["status"] {
		case "halted":
			return false, nil
		case "inProgress":
			r["status"] = "halted"
			return true, nil
		}
		return false, fmt.Errorf("release %s is %v: only one in progress can be halted", canary, r["status"])
	}
	return false, fmt.Errorf("no release %s on the track", canary)
}

// googleToken gets an access token for a service account
// (https://developers.google.com/identity/protocols/oauth2/service-account).
func (c *client) googleToken(ctx context.Context) (string, error) {
	assertion, err := signedJWT(c.s.Key, map[string]any{"alg": "RS256", "typ": "JWT"}, map[string]any{"iss": c.s.Issuer, "aud": c.s.TokenURL,
		"scope": "https://www.googleapis.com/auth/androidpublisher", "iat": c.now.Unix(), "exp": c.now.Add(10 * time.Minute).Unix()})
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.s.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("ask for an access token: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := c.send(req, &answer); err != nil {
		return "", err
	}
	return answer.Token, nil
}

// appStore pauses the phased release of the canary's version at a rollback. There
// is no way back to the version before, and anybody can still get it by hand. An app
// of several platforms has a version of the same name on each: all are paused
// (https://developer.apple.com/documentation/appstoreconnectapi/app-store-version-phased-releases).
func appStore(ctx context.Context, c *client, v *verdict.Verdict) error {
	if v.Decision != verdict.Rollback {
		return nil
	}
	token, err := signedJWT(c.s.Key, map[string]any{"alg": "ES256", "kid": c.s.KeyID, "typ": "JWT"},
		map[string]any{"iss": c.s.Issuer, "aud": "appstoreconnect-v1", "iat": c.now.Unix(), "exp": c.now.Add(15 * time.Minute).Unix()})
	if err != nil {
		return err
	}
	c.header.Set("Authorization", "Bearer "+token)
	query := url.Values{"filter[versionString]": {v.Canary}, "include": {"appStoreVersionPhasedRelease"}, "limit": {"10"}}
	var found struct {
		Included []struct {
			Type       string `json:"type"`
			ID         string `json:"id"`
			Attributes struct {
				State string `json:"phasedReleaseState"`
			} `json:"attributes"`
		} `json:"included"`
	}
	if err := c.call(ctx, http.MethodGet, "/v1/apps/"+url.PathEscape(c.s.Package)+"/appStoreVersions?"+query.Encode(), nil, &found); err != nil {
		return err
	}
	const phased = "appStoreVersionPhasedReleases"
	stopped, unready := 0, ""
	var faults []error
	for _, one := range found.Included {
		if one.Type != phased {
			continue
		}
		switch one.Attributes.State {
		case "PAUSED":
			stopped++
		case "ACTIVE":
			stopped++
			faults = append(faults, c.call(ctx, http.MethodPatch, "/v1/"+phased+"/"+url.PathEscape(one.ID),
				map[string]any{"data": map[string]any{"type": phased, "id": one.ID, "attributes": map[string]string{"phasedReleaseState": "PAUSED"}}}, nil))
		case "INACTIVE": // nobody gets it yet
			unready = one.Attributes.State
		default:
			faults = append(faults, fmt.Errorf("the phased release of version %s is %s: only an active one can be paused", v.Canary, one.Attributes.State))
		}
	}
	switch {
	case stopped > 0 || len(faults) > 0:
		return errors.Join(faults...)
	case unready != "":
		return fmt.Errorf("the phased release of version %s is %s: only an active one can be paused", v.Canary, unready)
	}
	return fmt.Errorf("version %s has no phased release to pause", v.Canary)
}

// checkKey reports what is wrong with a key.
func checkKey(kind string, pemText []byte) error {
	key, err := parseKey(pemText)
	if err != nil {
		return err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if kind == "google_play" {
			return nil
		}
	case *ecdsa.PrivateKey:
		if kind == "app_store" && k.Curve == elliptic.P256() {
			return nil
		}
	}
	return fmt.Errorf("key: want an RSA key for google_play, one of P-256 for app_store")
}

// parseKey reads a key in the forms in which it is given out: Google and Apple use PKCS
// #8, GitHub uses PKCS #1.
func parseKey(pemText []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(pemText)
	if block == nil {
		return nil, errors.New("key: want PEM")
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	return nil, errors.New("key: want a private key in PKCS #8 or PKCS #1, without a password")
}

// signedJWT returns a JSON web token (RFC 7519), signed with RS256 or ES256 (RFC
// 7518) by the kind of the key.
func signedJWT(pemText []byte, header, claims map[string]any) (string, error) {
	key, err := parseKey(pemText)
	if err != nil {
		return "", err
	}
	text := ""
	for _, part := range []map[string]any{header, claims} {
		raw, err := json.Marshal(part)
		if err != nil {
			return "", fmt.Errorf("sign a token: %w", err)
		}
		if text != "" {
			text += "."
		}
		text += base64.RawURLEncoding.EncodeToString(raw)
	}
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		// JOSE wants r and s beside one another, each of 32 bytes, and not in DER.
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			return "", fmt.Errorf("sign a token: %w", err)
		}
		signature = make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
	default:
		if signature, err = key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
			return "", fmt.Errorf("sign a token: %w", err)
		}
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
