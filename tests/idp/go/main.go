// Golang's x/oauth2 as an application of the gateway.
//
//	go run . ISSUER CLIENT SECRET REDIRECT_URI LOGIN
//
// where LOGIN is the path of browser.py.
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func must(what string, err error) {
	if err != nil {
		fmt.Println("FAIL x/oauth2:", what, "|", err)
		os.Exit(1)
	}
}

func main() {
	ctx := context.Background()
	issuer, id, secret, redirect, login := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	at, err := url.Parse(issuer)
	must("the issuer", err)
	endpoint := oauth2.Endpoint{AuthURL: at.Scheme + "://" + at.Host + "/login", TokenURL: issuer + "/oauth2/token"}
	for name, style := range map[string]oauth2.AuthStyle{
		"in the header": oauth2.AuthStyleInHeader, "in the form": oauth2.AuthStyleInParams, "found out": oauth2.AuthStyleAutoDetect,
	} {
		config := clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: endpoint.TokenURL, AuthStyle: style}
		_, err := config.Token(ctx)
		must("client credentials, secret "+name, err)
		fmt.Println("ok   x/oauth2: client credentials, secret", name)
	}
	config := oauth2.Config{ClientID: id, ClientSecret: secret, Endpoint: endpoint, RedirectURL: redirect, Scopes: []string{"orders"}}
	verifier := oauth2.GenerateVerifier()
	out, err := exec.Command("python3", login, config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), redirect, "alice", "alice-pw").Output()
	must("the login page", err)
	back, err := url.Parse(strings.TrimSpace(string(out)))
	must("the answer", err)
	token, err := config.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	must("code with PKCE", err)
	// The client renews it by itself when it is over.
	token.Expiry = time.Now().Add(-time.Minute)
	answer, err := config.Client(ctx, token).Get(issuer)
	must("refresh", err)
	if answer.StatusCode != http.StatusOK {
		must("a protected request", fmt.Errorf("%s", answer.Status))
	}
	fmt.Println("ok   x/oauth2: code with PKCE, refresh, a protected request")
}
