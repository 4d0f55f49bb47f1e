// The page at /docs: Swagger UI, from the package fastapi-swagger. Its own start stands in the page, which our policy forbids.

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null, // it would send the document to another host
});
