// @vpe/pki: the cluster's certificates: the CA, what it signs, tokens, and how a process joins and renews.

export * from './certificate-authority.ts'
export * from './certificate-request.ts'
export * from './durable-file.ts'
export * from './enrolment.ts'
export * from './join-token.ts'
export * from './renewal.ts'
